"""The demonstration judges by what it reads, and says so."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deliv_testbed.demo.delivery import Delivery, units
from deliv_testbed.demo.progress import progress
from deliv_testbed.demo.verdict import adler32, judge
from rich.console import Console

CONTENT = b"visibilities" * 1000
SUCCESS = {
    "status": "SUCCESS",
    "stager_path": "/staging/0190/M31 HI cube.fits",
    "time_submitted": "2026-03-01T10:00:00.000000+00:00",
    "time_staging": "2026-03-01T10:00:00.250000+00:00",
    "time_staged": "2026-03-01T10:00:01.250000+00:00",
    "time_transferring": "2026-03-01T10:00:01.300000+00:00",
    "time_success": "2026-03-01T10:00:03.500000+00:00",
}
FAILURE = {
    "status": "ERROR",
    "detailed_status": "the stager reported a failure",
    "error_class": "stager",
    "time_submitted": "2026-03-01T10:00:00.000000+00:00",
    "time_staging": "2026-03-01T10:00:00.500000+00:00",
    "time_error": "2026-03-01T10:00:03.500000+00:00",
}


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    """A product of which an equal copy has arrived."""
    source, directory = tmp_path / "archived", tmp_path / "destination"
    source.write_bytes(CONTENT)
    directory.mkdir()
    (directory / "M31 HI cube.fits").write_bytes(CONTENT)
    return Delivery(
        product_id="M31 HI cube.fits",
        size=len(CONTENT),
        source=source,
        directory=directory,
        job_id="0190-a-job",
        answer=dict(SUCCESS),
    )


def text_of(delivery: Delivery) -> str:
    return "\n".join(judge(delivery).lines)


def test_an_equal_copy_is_as_promised(delivery: Delivery) -> None:
    assert judge(delivery).correct
    assert "SUCCESS after 3.5 s" in text_of(delivery)
    assert "waiting 0.25 s, staging 1.00 s, handing over 0.05 s, transferring 2.20 s" in (
        text_of(delivery)
    )


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!", b""])
def test_a_different_copy_is_not(delivery: Delivery, content: bytes) -> None:
    assert delivery.arrived
    delivery.arrived.write_bytes(content)
    assert not judge(delivery).correct
    assert "DIFFERENT" in text_of(delivery)


def test_success_without_a_file_is_not(delivery: Delivery) -> None:
    assert delivery.arrived
    delivery.arrived.unlink()
    assert not judge(delivery).correct


@pytest.mark.parametrize("answer", [{}, {**SUCCESS, "status": "TRANSFERRING"}, FAILURE])
def test_a_delivery_that_did_not_succeed_is_not(delivery: Delivery, answer: Any) -> None:
    assert not judge(replace(delivery, answer=answer)).correct


def test_a_failure_on_order_is_shown_with_its_reason(delivery: Delivery) -> None:
    ordered = replace(delivery, source=None, answer=FAILURE)
    assert judge(ordered).correct
    assert "the stager reported a failure (stager)" in text_of(ordered)
    assert "waiting 0.50 s, staging 3.00 s" in text_of(ordered)


def test_a_failure_on_order_that_succeeds_is_not_as_promised(delivery: Delivery) -> None:
    assert not judge(replace(delivery, source=None)).correct


def test_adler32_is_the_known_one_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"Wikipedia")
    assert adler32(tmp_path / "file") == "11e60398"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (4321, "4.2 KiB"), (2**20, "1.0 MiB"), (2**40, "1024.0 GiB")],
)
def test_sizes_have_units(size: int, text: str) -> None:
    assert units(size) == text


def test_off_a_terminal_each_change_of_state_is_one_line(delivery: Delivery) -> None:
    console = Console(file=io.StringIO(), width=40)
    with progress(console) as view:
        view.show([replace(delivery, answer={})])
        view.show([replace(delivery, answer={})])
        view.show([delivery])
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "SUBMITTED     M31 HI cube.fits (11.7 KiB)",
        "SUCCESS       M31 HI cube.fits (11.7 KiB)",
    ]


def test_on_a_terminal_a_table_shows_names_as_they_are(delivery: Delivery) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with progress(console) as view:
        view.show([replace(delivery, product_id="[red]Südhimmel-β.fits")])
    assert "[red]Südhimmel-β.fits" in console.file.getvalue()  # type: ignore[attr-defined]

"""The demonstration judges by what it reads, and says so."""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deliv_testbed import products
from deliv_testbed.demo.delivery import Delivery
from deliv_testbed.demo.progress import progress
from deliv_testbed.demo.run import wanted
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
        sizes={".": len(CONTENT)},
        source=source,
        directory=directory,
        job_id="0190-a-job",
        answer=dict(SUCCESS),
    )


TREE = {"0001.npy": CONTENT, "flags/Su\u0308d 1.npy": b"", "logs/log.txt": b"observed"}


@pytest.fixture
def tree(tmp_path: Path) -> Delivery:
    """A product that is a directory, of which all has arrived."""
    for place in ("archive/products", "home"):
        for name, content in TREE.items():
            path = tmp_path / place / "1541443392-sdp-l0" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return Delivery(
        product_id="1541443392-sdp-l0",
        sizes={name: len(content) for name, content in TREE.items()},
        source=tmp_path / "archive" / "products" / "1541443392-sdp-l0",
        directory=tmp_path / "home",
        job_id="0190-a-job",
        answer={
            **SUCCESS,
            "stager_path": "/staging/0190/1541443392-sdp-l0",
            "files_total": 3,
            "files_done": 3,
        },
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


def test_every_file_of_a_directory_is_compared(tree: Delivery) -> None:
    assert judge(tree).correct
    text = text_of(tree)
    assert "3 of 3 files, as deliv says" in text
    assert "3 of 3 are equal, 12008 bytes (11.7 KiB)" in text
    for name, content in TREE.items():
        adler = f"{zlib.adler32(content):08x}"
        assert f"ADLER32  archive {adler}, destination {adler}: equal  {name}" in text


@pytest.mark.parametrize("name", TREE)
@pytest.mark.parametrize(
    ("damage", "remark"),
    [
        (lambda file: file.write_bytes(file.read_bytes() + b"!"), "DIFFERENT"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1] + b"!"), "DIFFERENT"),
        (lambda file: file.unlink(), "MISSING"),
    ],
)
def test_a_directory_with_one_wrong_file_is_not_as_promised(
    tree: Delivery, name: str, damage: Any, remark: str
) -> None:
    assert tree.arrived
    damage(tree.arrived / name)
    assert not judge(tree).correct
    (line,) = [line for line in judge(tree).lines if remark in line]
    assert name in line
    assert "2 of 3 are equal" in text_of(tree)


def test_a_directory_with_a_file_too_many_is_not_as_promised(tree: Delivery) -> None:
    assert tree.arrived
    (tree.arrived / "flags" / "stray").touch()
    assert not judge(tree).correct
    assert "UNEXPECTED  flags/stray" in text_of(tree)


@pytest.mark.parametrize("count", ["files_total", "files_done"])
def test_another_count_of_files_is_not_as_promised(tree: Delivery, count: str) -> None:
    assert not judge(replace(tree, answer={**tree.answer, count: 2})).correct


@pytest.mark.parametrize("answer", [{}, {**SUCCESS, "status": "TRANSFERRING"}, FAILURE])
def test_a_delivery_that_did_not_succeed_is_not(delivery: Delivery, answer: Any) -> None:
    assert not judge(replace(delivery, answer=answer)).correct


def test_a_failure_on_order_is_shown_with_its_reason(delivery: Delivery) -> None:
    ordered = replace(delivery, source=None, sizes={}, answer=FAILURE)
    assert judge(ordered).correct
    assert "the stager reported a failure (stager)" in text_of(ordered)
    assert "waiting 0.50 s, staging 3.00 s" in text_of(ordered)


def test_a_failure_on_order_that_succeeds_is_not_as_promised(delivery: Delivery) -> None:
    assert not judge(replace(delivery, source=None, sizes={})).correct


def test_adler32_is_the_known_one_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"Wikipedia")
    assert adler32(tmp_path / "file") == "11e60398"


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


def test_off_a_terminal_each_file_of_a_directory_is_progress(tree: Delivery) -> None:
    assert tree.arrived
    moving = replace(tree, answer={**tree.answer, "status": "TRANSFERRING"})
    late = tree.arrived / "logs" / "log.txt"
    late.write_bytes(b"obs")  # still being written
    console = Console(file=io.StringIO(), width=40)
    with progress(console) as view:
        view.show([replace(tree, answer={})])
        view.show([moving])
        view.show([moving])
        late.write_bytes(TREE["logs/log.txt"])
        view.show([moving])
        view.show([tree])
    name = "1541443392-sdp-l0"
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        f"SUBMITTED     {name} (0 of 3 files, 0 B of 11.7 KiB)",
        f"TRANSFERRING  {name} (2 of 3 files, 11.7 KiB of 11.7 KiB)",
        f"TRANSFERRING  {name} (3 of 3 files, 11.7 KiB of 11.7 KiB)",
        f"SUCCESS       {name} (3 of 3 files, 11.7 KiB of 11.7 KiB)",
    ]


def test_on_a_terminal_files_and_bytes_are_shown(tree: Delivery, delivery: Delivery) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with progress(console) as view:
        view.show([tree, delivery])
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    assert ["1541443392-sdp-l0", "11.7 KiB", "SUCCESS", "3 of 3", "11.7 KiB"] in rows
    assert ["M31 HI cube.fits", "11.7 KiB", "SUCCESS", "1 of 1", "11.7 KiB"] in rows


def test_the_products_of_the_archive_are_delivered_with_their_files(tmp_path: Path) -> None:
    """Those of one file, the directories, and one that has to fail."""
    products.install(tmp_path, {"005": 3, "tree": {"a": 1, "b/c": 2}})
    found = [*wanted(products.known(tmp_path), tmp_path)]
    assert [(product_id, sizes) for product_id, sizes, _ in found] == [
        ("005", {".": 3}), ("tree", {"a": 1, "b/c": 2}), ("fail-005", {}),
    ]  # fmt: skip
    for _, sizes, source in found[:2]:
        assert source is not None
        assert {name: (source / name).stat().st_size for name in sizes} == sizes
    assert found[2][2] is None


def test_on_a_terminal_a_table_shows_names_as_they_are(delivery: Delivery) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with progress(console) as view:
        view.show([replace(delivery, product_id="[red]Südhimmel-β.fits")])
    assert "[red]Südhimmel-β.fits" in console.file.getvalue()  # type: ignore[attr-defined]

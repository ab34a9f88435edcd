"""Jobs as the commands show them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from deliv.client import show

NUMBERS = {
    "files_total": 10_000, "files_done": 9_997,
    "bytes_total": 3 * 2**30, "bytes_done": 2**30,
}  # fmt: skip


def shown(action: object) -> str:
    assert callable(action)
    console = Console(file=io.StringIO(), width=200, soft_wrap=True)
    action(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_nothing_sent_can_steer_the_terminal() -> None:
    answer = {"status": "ERROR", "product_id": "a\x1b[2Jb", "detailed_status": "[red]x\x07[/red]"}
    for action in (show.show_status, show.show_result):
        text = shown(lambda console, action=action: action(answer, console))
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[red]x" in text


def test_progress_shows_each_state_once() -> None:
    answers = [
        {"status": "SUBMITTED"},
        {"status": "STAGING"},
        {"status": "STAGING"},
        {"status": "STAGING", "time_staged": "2026-01-01T00:00:00Z"},
        {"status": "STAGING", "attempt": 2, "detailed_status": "the stager was slow"},
        {"status": "SUCCESS"},
    ]

    def follow(console: Console) -> None:
        progress = show.Progress(console)
        for answer in answers:
            progress(answer)

    lines = shown(follow).splitlines()
    assert len(lines) == 5
    assert "staged, about to be copied" in lines[2]
    assert "(attempt 2): the stager was slow" in lines[3]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (4321, "4.2 KiB"), (2**20, "1.0 MiB"),
        (2**30 * 1.5, "1.5 GiB"), (2**40, "1.0 TiB"), (2**63 - 1, "8192.0 PiB"),
    ],
)  # fmt: skip
def test_sizes_have_units(size: float, text: str) -> None:
    assert show.units(size) == text


@pytest.mark.parametrize("action", [show.show_status, show.show_result])
def test_a_product_of_many_files_is_shown_in_files_and_bytes(action: Any) -> None:
    text = shown(lambda console: action({"status": "ERROR", **NUMBERS}, console))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert any(line.startswith("files") and line.endswith("9,997 of 10,000") for line in lines)
    assert any(line.startswith("bytes") and line.endswith("1.0 GiB of 3.0 GiB") for line in lines)
    assert "files_" not in text
    assert "bytes_" not in text


def test_where_the_stager_gave_no_sizes_there_is_no_total_of_bytes() -> None:
    numbers = {name: value for name, value in NUMBERS.items() if name != "bytes_total"}
    assert show.amounts(numbers) == {"files": "9,997 of 10,000", "bytes": "1.0 GiB"}


def test_a_product_of_one_file_is_not_counted() -> None:
    text = shown(
        lambda console: show.show_result({"status": "SUCCESS", "product_size": 7}, console)
    )
    assert text.splitlines()[1].split() == ["product", "size:", "7"]
    assert show.amounts({"status": "SUCCESS", "product_size": 7}) == {}


def test_progress_counts_files_and_bytes_as_they_arrive() -> None:
    """The server's own sentence of how many have arrived is not repeated."""
    waiting = {"detailed_status": "waiting: FTS"}
    arrived = {"detailed_status": "9,997 of 10,000 files arrived"}
    answers = [
        {"status": "TRANSFERRING", **NUMBERS, "files_done": 0, "bytes_done": 0},
        {"status": "TRANSFERRING", **NUMBERS, **arrived},
        {"status": "TRANSFERRING", **NUMBERS, **arrived},
        {"status": "TRANSFERRING", **NUMBERS, **waiting},
        {"status": "SUCCESS", **NUMBERS, "files_done": 10_000, "bytes_done": 3 * 2**30},
    ]

    def follow(console: Console) -> None:
        progress = show.Progress(console)
        for answer in answers:
            progress(answer)

    lines = [line.partition(" s  ")[2] for line in shown(follow).splitlines()]
    copied = "TRANSFERRING  being copied to the destination, "
    assert lines == [
        f"{copied}0 of 10,000 files, 0 B of 3.0 GiB",
        f"{copied}9,997 of 10,000 files, 1.0 GiB of 3.0 GiB",
        f"{copied}9,997 of 10,000 files, 1.0 GiB of 3.0 GiB: waiting: FTS",
        "SUCCESS  delivered, 10,000 of 10,000 files, 3.0 GiB of 3.0 GiB",
    ]


def test_a_job_that_waits_is_not_said_to_be_copied() -> None:
    answer = {"status": "TRANSFERRING", "waiting_for": "destination"}
    assert show.meaning(answer) == "waiting (destination)"
    assert show.meaning({"status": "TRANSFERRING"}) == "being copied to the destination"

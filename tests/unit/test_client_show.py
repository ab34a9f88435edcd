"""Jobs as the commands show them."""

from __future__ import annotations

import io

from rich.console import Console

from deliv.client import (
    show,
)


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

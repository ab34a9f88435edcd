"""`deliv submit --from`: the lines of a file are submitted, with a count of those that are done."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from deliv.client import campaign
from deliv.client.command_run import CommandRun
from deliv.client.errors import UnusableFile, answered

AT_ONCE = 500  # lines of a file in one call


def submit_file(session: CommandRun) -> int:
    """Some lines in each call; the exit code is that of the first line that is refused."""
    options = session.options
    given = {"destination_path": options.destination, "label": options.label}
    defaults = {name: value for name, value in given.items() if value is not None}
    lines = campaign.read(_content(options.source), defaults, options.idempotency_key)
    refused: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    print_ids = not options.json and not session.out.is_terminal

    def done(number: int) -> str:
        return f"{number} of {len(lines)} lines are done: repeat the command to go on"

    session.resume = done(0)
    with session.client() as client, _Count(session.err, len(lines)) as count:
        for start in range(0, len(lines), AT_ONCE):
            some = lines[start : start + AT_ONCE]
            outcomes = client.submit_many([line.item for line in some])
            session.resume = done(start + len(some))
            for line, outcome in zip(some, outcomes, strict=True):
                answers.append({"line": line.number, **outcome})
                if "job_id" not in outcome:
                    refused.append(answers[-1])
                    session.say(f"line {line.number}: {outcome.get('msg')}")
            if print_ids:  # without rich, which takes as long for a line as deliv for its job
                ids = [f"{one['job_id']}\n" for one in outcomes if "job_id" in one]
                print("".join(ids), end="", flush=True)
            count(len(answers), len(refused))
    if options.json:
        numbers = {"accepted": len(answers) - len(refused), "refused": len(refused)}
        session.print_json({"error": False, **numbers, "transfers": answers})
    if not refused:
        return 0
    first = refused[0]
    return answered(int(first.get("code", 400)), str(first.get("msg")), None).exit_code


def _content(source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise UnusableFile(f"{source} can't be read: {error.strerror}") from error


class _Count:
    """How many of a file's lines are done: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._bar = Bar(
            TextColumn("{task.fields[text]}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            redirect_stdout=False,
        )
        self._task = self._bar.add_task("", total=total, text="")

    def __call__(self, done: int, refused: int) -> None:
        text = f"{done:,} of {self._total:,} lines"
        text += f", {refused:,} refused" if refused else ""
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, text=text)
        else:
            self._console.print(Text(text))

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

"""A job on the terminal: its status as a table, its progress while it is waited for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS = {"SUCCESS": "green", "ERROR": "red", "CANCELLED": "yellow"}
MEANINGS = {
    "SUBMITTED": "waiting for its turn",
    "STAGING": "being staged out of the archive",
    "TRANSFERRING": "being copied to the destination",
    "SUCCESS": "delivered",
    "ERROR": "failed",
    "CANCELLED": "cancelled",
}
FIRST_FIELDS = ("job_id", "product_id", "destination_path", "submitter", "status")

Answer = Mapping[str, Any]


def printable(value: object) -> str:
    """The text with whatever could steer the terminal replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def meaning(answer: Answer) -> str:
    """What the job is doing, in words."""
    if answer.get("status") == "STAGING" and "time_staged" in answer:
        return "staged, about to be copied"
    return MEANINGS.get(str(answer.get("status")), "")


def show_status(answer: Answer, console: Console) -> None:
    """Every field on a line, what was asked first, then as deliv sent them."""
    table = Table.grid(padding=(0, 2))
    rest = (name for name in answer if name not in FIRST_FIELDS)
    for name in (*FIRST_FIELDS, *rest):
        if name in answer:
            table.add_row(Text(name, style="bold"), _value(name, answer))
    console.print(table)


def show_result(answer: Answer, console: Console) -> None:
    """The end of a job: where the product is, or why it is not, and what to do."""
    status = str(answer.get("status"))
    headline = Text(f"{meaning(answer) or status}: ", style=COLOURS.get(status, ""))
    console.print(headline.append(printable(answer.get("product_id", "")), style="default"))
    for name in ("detailed_status", "error_class", "product_size", "checksum"):
        if name in answer:
            console.print(Text(f"  {name.replace('_', ' ')}: {printable(answer[name])}"))


def show_list(jobs: Sequence[Answer], console: Console) -> None:
    """A line for each job, however wide: scripts read it, so nothing is folded or cut."""
    for job in jobs:
        submitted = Text(printable(job.get("time_submitted", ""))[:19])
        names = (Text(printable(job.get(name, ""))) for name in ("product_id", "destination_path"))
        cells = (Text(printable(job.get("job_id", ""))), submitted, _status(job), *names)
        console.print(Text("  ").join(cells))


def show_events(events: Sequence[Answer], console: Console) -> None:
    """A line for each step of a job."""
    table = Table.grid(padding=(0, 2))
    for event in events:
        state = {**event, "time_staged": event["time"]} if event.get("staged") else event
        row = (event.get("time", ""), event.get("attempt", ""))
        prose = Text(printable(event.get("detailed_status", "")))
        table.add_row(*(Text(printable(cell)) for cell in row), _value("status", state), prose)
    console.print(table)


class Progress:
    """Each state of the job on a line of its own, with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._last = ""

    def __call__(self, answer: Answer) -> None:
        line = self._line(answer)
        if line != self._last:
            self._last = line
            seconds = time.monotonic() - self._started
            self._console.print(Text(f"{seconds:7.1f} s  ", style="dim").append(line))

    def _line(self, answer: Answer) -> str:
        line = f"{answer.get('status')}  {meaning(answer)}"
        attempt = answer.get("attempt", 1)
        if attempt != 1:
            line += f" (attempt {attempt}; {printable(answer.get('detailed_status', ''))})"
        return line


def _value(name: str, answer: Answer) -> Text:
    if name != "status":
        return Text(printable(answer[name]))
    text = _status(answer)
    return text.append(f" ({meaning(answer)})", style="default") if meaning(answer) else text


def _status(answer: Answer) -> Text:
    status = str(answer.get("status"))
    return Text(printable(status), style=COLOURS.get(status, ""))

"""Jobs as people read them: on a terminal or in a pipe, and while they are waited for."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from rich.console import Console
from rich.text import Text

COLOURS = {
    "SUCCESS": "green", "ERROR": "red", "CANCELLED": "yellow",
    "FINISHED": "green", "FAILED": "red",
}  # fmt: skip
MEANINGS = {
    "SUBMITTED": "waiting for its turn",
    "STAGING": "being staged out of the archive",
    "TRANSFERRING": "being copied to the destination",
    "SUCCESS": "delivered",
    "ERROR": "failed",
    "CANCELLED": "cancelled",
}
FIRST_FIELDS = ("job_id", "product_id", "destination_path", "submitter", "status")
AMOUNTS = ("files_done", "bytes_total", "bytes_done")  # which go along with files_total
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")  # and PiB
FILES_AT_ONCE = 100
PROSE = frozenset({"detailed_status", "stager_status", "warning"})
GAP, INDENT = 2, 4
LEAST = 30  # columns that the last cell of a row needs to stay on its line

Answer = Mapping[str, Any]
Row = Sequence[Text]


def printable(value: object) -> str:
    """The text on one line, with whatever could steer the terminal replaced."""
    return "".join(
        one if one.isprintable() else " " if one.isspace() else "\N{REPLACEMENT CHARACTER}"
        for one in str(value)
    )


def meaning(answer: Answer) -> str:
    """What the job is doing, in words."""
    if "waiting_for" in answer:
        return f"waiting ({answer['waiting_for']})"
    if answer.get("status") == "STAGING" and "time_staged" in answer:
        return "staged, about to be copied"
    return MEANINGS.get(str(answer.get("status")), "")


def units(size: float) -> str:
    """A size in bytes for people: 0 B, 4.2 KiB, 1.0 GiB."""
    for unit in UNITS:
        if size < 1024:
            return f"{size:.1f} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1024
    return f"{size:.1f} PiB"


def amounts(answer: Answer) -> dict[str, str]:
    """How many files and bytes are there of those of a product of several; else empty."""
    if "files_total" not in answer:
        return {}
    done = units(answer.get("bytes_done", 0))
    whole = f" of {units(answer['bytes_total'])}" if "bytes_total" in answer else ""
    files = f"{answer.get('files_done', 0):,} of {answer['files_total']:,}"
    return {"files": files, "bytes": f"{done}{whole}"}


def show_status(answer: Answer, console: Console) -> None:
    """Every field on a line, what was asked first, then as deliv sent them."""
    answer = _with_amounts(answer)
    rest = (name for name in answer if name not in FIRST_FIELDS)
    names = [name for name in (*FIRST_FIELDS, *rest) if name in answer]
    show_rows([(_cell(name, "bold"), _value(name, answer)) for name in names], console)


def show_result(answer: Answer, console: Console) -> None:
    """The end of a job: where the product is, or why it is not, and what to do."""
    status = str(answer.get("status"))
    headline = Text(f"{meaning(answer) or status}: ", style=COLOURS.get(status, ""))
    console.print(headline.append(printable(answer.get("product_id", "")), style="default"))
    answer = _with_amounts(answer)
    size = ("files", "bytes") if "files" in answer else ("product_size",)
    names = ("detailed_status", "error_class", *size, "checksum")
    shown = [name for name in names if name in answer]
    labels = [f"  {name.replace('_', ' ')}:" for name in shown]
    rows = zip(map(_cell, labels), (_value(name, answer) for name in shown), strict=True)
    show_rows(list(rows), console)


def show_list(jobs: Sequence[Answer], console: Console, own: str) -> None:
    """A row for each job; with the submitter where one is not the caller, whose DN is `own`."""
    others = any(job.get("submitter") != own for job in jobs)
    submitter = {"SUBMITTER": "submitter"} if others else {}
    columns = {**submitter, "PRODUCT": "product_id", "DESTINATION": "destination_path"}
    rows = [_header("JOB", "SUBMITTED (UTC)", "STATUS", *columns, "REASON")]
    for job in jobs:
        submitted = str(job.get("time_submitted", ""))[:19].replace("T", " ")
        reason = "" if job.get("status") == "SUCCESS" else job.get("detailed_status", "")
        first = (_cell(job.get("job_id", "")), _cell(submitted), _status(job))
        middle = (_cell(job.get(name, "")) for name in columns.values())
        rows.append((*first, *middle, _cell(reason, prose=True)))
    show_rows(rows, console)


def show_events(events: Sequence[Answer], console: Console) -> None:
    """A row for each step of a job."""
    rows = [_header("TIME (UTC)", "ATTEMPT", "STATUS", "WHAT HAPPENED")]
    for event in events:
        state = {**event, "time_staged": event["time"]} if event.get("staged") else event
        what = _cell(event.get("detailed_status") or meaning(state), prose=True)
        times = (_cell(event.get(name, "")) for name in ("time", "attempt"))
        rows.append((*times, _status(event), what))
    show_rows(rows, console)


def show_files(files: Iterator[Answer], console: Console) -> bool:
    """A row for each file as they come, some at once; whether there was any.

    States and sizes are as wide as they may be, so that names are in one column from first to last.
    """
    rows = [_header(f"{'STATE':8}", f"{'SIZE':>10}", "NAME", "WHAT HAPPENED")]
    found = False
    while some := [_file(file) for file in islice(files, FILES_AT_ONCE)]:
        show_rows([*rows, *some], console)
        rows, found = [], True
    if rows:
        show_rows(rows, console)
    return found


def _file(answer: Answer) -> Row:
    state = str(answer.get("state"))
    size = units(answer["size"]) if "size" in answer else ""
    what = [f"{reason.rstrip('. ')}."] if (reason := str(answer.get("reason", ""))) else []
    what += [str(answer["remedy"])] if "remedy" in answer else []
    if answer.get("partial"):
        what.append(f"An attempt may have left (a part of) it at {answer.get('destination')}.")
    if not what and state == "WAITING" and answer.get("attempt") == 0:
        what = ["not tried"]
    return (
        _cell(f"{state:8}", COLOURS.get(state, "")),
        _cell(f"{size:>10}"),
        _cell(answer.get("name", "")),
        _cell(" ".join(what), prose=True),
    )


def show_rows(rows: Sequence[Row], console: Console) -> None:
    """Rows of cells, in columns. Every value is whole: users copy paths and ids from here.

    In a pipe a row is a line. On a terminal that is too narrow a row takes several, prose in the
    last column is broken between words, and what is longer than a line is for the terminal to fold.
    """
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    screen = console.width if console.is_terminal else None
    for row in rows:
        for columns in _lines(widths, screen):
            line = Text(" " * INDENT if columns[0] else "")
            for column in columns:
                cell = row[column]
                if column == last:
                    if screen is not None and not cell.no_wrap:
                        space, indent = max(LEAST, screen - line.cell_len), " " * line.cell_len
                        folded = textwrap.wrap(
                            cell.plain, space, break_long_words=False, break_on_hyphens=False
                        )
                        cell = Text(f"\n{indent}".join(folded), style=cell.style)
                    line.append_text(cell)
                else:
                    line.append_text(cell).append(" " * (widths[column] - cell.cell_len + GAP))
            line.rstrip()
            if line:
                console.print(line)


def _lines(widths: Sequence[int], screen: int | None) -> list[list[int]]:
    """Which columns share a line. The last one needs no more than LEAST: it can be folded."""
    lines, used = [[0]], widths[0]
    for column, width in enumerate(widths[1:], 1):
        needed = min(width, LEAST) if column == len(widths) - 1 else width
        if screen is not None and used + GAP + needed > screen:
            lines.append([])
            used = INDENT - GAP
        lines[-1].append(column)
        used += GAP + width
    return lines


class Progress:
    """Each state of the job on a line of its own, with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._last = ""

    def __call__(self, answer: Answer) -> None:
        status, attempt = answer.get("status"), answer.get("attempt", 1)
        line = f"{status}  {meaning(answer)}"
        numbers = amounts(answer)
        line += f", {numbers['files']} files, {numbers['bytes']}" if numbers else ""
        line += f" (attempt {attempt})" if attempt != 1 else ""
        names = []  # of the fields that say what holds the job up
        if status in {"SUBMITTED", "STAGING", "TRANSFERRING"}:
            names.append("detailed_status")
        if status == "STAGING" and "time_staged" not in answer:
            names.append("stager_status")
        reasons = [str(answer[name]) for name in names if name in answer]
        said = ("accepted", f"{numbers.get('files')} files arrived")
        if text := "; ".join(reason for reason in reasons if reason not in said):
            line += f": {text}"
        line = printable(line)
        if line != self._last:
            self._last = line
            seconds = time.monotonic() - self._started
            self._console.print(Text(f"{seconds:7.1f} s  ", style="dim").append(line))


def totals(numbers: Answer) -> str:
    """How many jobs of each status."""
    given = [f"{numbers[name]:,} {name}" for name in MEANINGS if numbers.get(name)]
    return ", ".join(given) or "no jobs"


def _header(*names: str) -> Row:
    return [Text(name, style="bold") for name in names]


def _cell(value: object, style: str = "", *, prose: bool = False) -> Text:
    return Text(printable(value), style=style, no_wrap=not prose)


def _with_amounts(answer: Answer) -> Answer:
    """With `files` and `bytes` in place of the numbers that they are made of."""
    shown: dict[str, Any] = {}
    for name, value in answer.items():
        if name == "files_total":
            shown |= amounts(answer)
        elif name not in AMOUNTS:
            shown[name] = value
    return shown


def _value(name: str, answer: Answer) -> Text:
    if name != "status":
        return _cell(answer[name], prose=name in PROSE)
    text = _status(answer)
    return text.append(f" ({meaning(answer)})", style="default") if meaning(answer) else text


def _status(answer: Answer) -> Text:
    status = str(answer.get("status"))
    return _cell(status, COLOURS.get(status, ""))

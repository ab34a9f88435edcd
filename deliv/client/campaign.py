"""What `deliv submit --from` reads: CSV with one product a line, or a JSON object on each line.

Nothing is sent before all lines are read and found good.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from deliv.client.errors import UnusableFile

FIELDS = ("product_id", "destination_path", "deadline", "label")
HEADER = FIELDS[0]  # a first line that begins so names the columns


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line's request: `number` counts from 1, `item` is as Client.submit_many takes it."""

    number: int
    item: Mapping[str, str]


def read(content: bytes, defaults: Mapping[str, str], run: str | None) -> list[Line]:
    """Every line that is not empty, with `defaults` for what it does not say. UnusableFile.

    Each has an idempotency key, made from the run and the line's number: the same file with the
    same defaults makes the same jobs, another `run` (a name) other ones.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UnusableFile(f"line {number} is not UTF-8") from error
    wanted = [run] if run is not None else [sha256(content).hexdigest(), sorted(defaults.items())]
    base = sha256(json.dumps(wanted).encode()).hexdigest()[:32]
    lines = [
        Line(number=number, item=_item(number, {**defaults, **given}, f"{base}-{number}"))
        for number, given in (_json(text) if text.lstrip().startswith("{") else _csv(text))
    ]
    if not lines:
        raise UnusableFile("there is no line in it")
    return lines


def _item(number: int, fields: Mapping[str, str], key: str) -> dict[str, str]:
    for name in ("product_id", "destination_path"):
        if not fields.get(name):
            raise UnusableFile(f"line {number} has no {name}")
    item = {name: value for name, value in fields.items() if value}
    if "deadline" in item:
        try:
            aware = datetime.fromisoformat(item["deadline"]).astimezone()
        except (ValueError, OverflowError) as error:
            text = f"line {number}: the deadline must be ISO 8601, not {item['deadline']!r}"
            raise UnusableFile(text) from error
        item["deadline"] = aware.isoformat()
    return {"idempotency_key": key, **item}


def _json(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UnusableFile(f"line {number} is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise UnusableFile(f"line {number} is not a JSON object")
        _check_names(number, [*fields], (*FIELDS, "idempotency_key"))
        given = {name: value for name, value in fields.items() if value is not None}
        if wrong := next((name for name in given if not isinstance(given[name], str)), None):
            raise UnusableFile(f"line {number}: {wrong} must be a string")
        yield number, given


def _csv(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Columns are in the order of FIELDS, or as the first line names them."""
    reader = csv.reader(text.split("\n"), strict=True)
    names: list[str] = list(FIELDS)
    first = True
    while True:
        number = reader.line_num + 1
        try:
            row = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise UnusableFile(f"line {number} is not CSV: {error}") from error
        if not any(row):
            continue
        if first and row[0] == HEADER:
            _check_names(number, row, FIELDS)
            names = row
        elif len(row) > len(names):
            raise UnusableFile(f"line {number} has {len(row)} columns, not {', '.join(names)}")
        else:
            yield number, {name: cell for name, cell in zip(names, row, strict=False) if cell}
        first = False


def _check_names(number: int, names: list[str], allowed: tuple[str, ...]) -> None:
    if unknown := [name for name in names if name not in allowed]:
        known = ", ".join(allowed)
        raise UnusableFile(f"line {number}: unknown {unknown[0]!r}; there are {known}")
    if len(set(names)) < len(names):
        raise UnusableFile(f"line {number} has a name twice")

"""The stager's state: one SQLite file, so that a killed stager resumes its work."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS stagings (
    job_id TEXT PRIMARY KEY,
    product_id TEXT NOT NULL,
    authcode TEXT NOT NULL,
    callback TEXT NOT NULL,
    state TEXT NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    since REAL NOT NULL,
    name TEXT,
    size INTEGER,
    checksum TEXT,
    msg TEXT,
    answers TEXT NOT NULL DEFAULT '[]'
)
"""
PUT = """
INSERT INTO stagings (job_id, product_id, authcode, callback, state, since)
VALUES (?, ?, ?, ?, 'COPYING', ?)
ON CONFLICT (job_id) DO UPDATE SET
    authcode = excluded.authcode, callback = excluded.callback, told = 0,
    since = CASE state WHEN 'FAILED' THEN excluded.since ELSE since END,
    state = CASE state WHEN 'FAILED' THEN 'COPYING' ELSE state END
"""


class State(StrEnum):
    COPYING = "COPYING"
    STAGED = "STAGED"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True)
class StagingRequest:
    """What deliv asks for: copy a product, then report to `callback` with `authcode`."""

    job_id: str
    product_id: str
    authcode: str
    callback: str


@dataclass(frozen=True, kw_only=True)
class Staging(StagingRequest):
    """A request and what became of it.

    `told`: the latest request's callback was answered; `answers` are the HTTP statuses of all
    callbacks; `since` is when the copy was ordered, seconds since the epoch. `name`, `size` and
    `checksum` are those of the copy, a directory's without `checksum`.
    """

    state: State
    told: bool
    since: float
    name: str | None
    size: int | None
    checksum: str | None
    msg: str | None
    answers: tuple[int, ...]


class Register:
    """Every method is one short transaction; SQLite's errors pass through."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(SCHEMA)

    def put(self, request: StagingRequest) -> None:
        """Store a new request, or a known job's new code and callback; a failed one restarts."""
        row = (request.job_id, request.product_id, request.authcode, request.callback, time.time())
        self._db.execute(PUT, row)

    def get(self, job_id: str) -> Staging | None:
        row = self._db.execute("SELECT * FROM stagings WHERE job_id = ?", (job_id,)).fetchone()
        return _staging(row) if row else None

    def all(self) -> list[Staging]:
        return [_staging(row) for row in self._db.execute("SELECT * FROM stagings ORDER BY since")]

    def unreported(self) -> list[str]:
        """The ids of jobs whose request is not answered yet."""
        return [row[0] for row in self._db.execute("SELECT job_id FROM stagings WHERE told = 0")]

    def staged(self, job_id: str, *, name: str, size: int, checksum: str | None) -> None:
        self._db.execute(
            "UPDATE stagings SET state = 'STAGED', name = ?, size = ?, checksum = ?,"
            " msg = 'staged' WHERE job_id = ?",
            (name, size, checksum, job_id),
        )

    def failed(self, job_id: str, msg: str) -> None:
        self._db.execute(
            "UPDATE stagings SET state = 'FAILED', msg = ? WHERE job_id = ?", (msg, job_id)
        )

    def reported(self, staging: Staging, answers: Iterable[int]) -> None:
        """Store the callback's answers; a request that came in between is still to be reported."""
        self._db.execute(
            "UPDATE stagings SET answers = ?, told = (authcode = ?) WHERE job_id = ?",
            (json.dumps([*staging.answers, *answers]), staging.authcode, staging.job_id),
        )

    def remove(self, job_id: str) -> None:
        self._db.execute("DELETE FROM stagings WHERE job_id = ?", (job_id,))

    def close(self) -> None:
        self._db.close()


def _staging(row: sqlite3.Row) -> Staging:
    columns = dict(row)
    return Staging(
        **columns
        | {
            "state": State(columns["state"]),
            "told": bool(columns["told"]),
            "answers": tuple(json.loads(columns["answers"])),
        }
    )

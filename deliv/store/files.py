"""The files of jobs: deliv/store/sql/0013_files.sql. Each step is for a bounded number of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from deliv.db.database import Connection, Row
from deliv.model.error_classes import ErrorClass
from deliv.model.file import (
    TAKEN,
    File,
    FileGroup,
    FileListing,
    FileResult,
    FileState,
    ReportedFile,
    name_key,
)
from deliv.model.job import Job
from deliv.model.transfer import OpenTransfer
from deliv.store import jobs, outbox, transfers
from deliv.store.columns import Change, fitted, placeholders
from deliv.store.outbox import Routing

NAMES = ", ".join(field.name for field in fields(File))
INSERTED = f"job_id, report, name_key, {NAMES}"
OF_REPORT = "job_id = %s AND report = %s"
SELECT = f"SELECT {NAMES} FROM job_files"  # noqa: S608 - the names of File's fields
INSERT = f"INSERT INTO job_files ({INSERTED}) VALUES "  # noqa: S608 - constants
EARLIER = f"SELECT name_key, {NAMES} FROM job_files WHERE {OF_REPORT} AND name_key IN "  # noqa: S608
THERE = f"SELECT number FROM job_files WHERE {OF_REPORT} AND number = %s"  # noqa: S608
TOTALS = f"""
SELECT COUNT(*) AS files_total, COUNT(IF(state = 'FINISHED', 1, NULL)) AS files_done,
  IF(COUNT(size) = COUNT(*), SUM(size), NULL) AS bytes_total,
  COALESCE(SUM(IF(state = 'FINISHED', size, 0)), 0) AS bytes_done
FROM job_files WHERE {OF_REPORT}
"""  # noqa: S608 - constants
DISCARD = f"DELETE FROM job_files WHERE {OF_REPORT} LIMIT %s"  # noqa: S608 - constants
FREE = """
DELETE FROM destination_writers WHERE job_id = %s
  AND NOT EXISTS (
    SELECT 1 FROM jobs WHERE job_id = destination_writers.job_id
    AND destination_key = destination_writers.destination_key)
  AND NOT EXISTS (
    SELECT 1 FROM job_files WHERE job_id = destination_writers.job_id
    AND destination_key = destination_writers.destination_key AND state = 'ASSIGNED')
"""
OPEN = f"""
FROM job_files FORCE INDEX (state) WHERE {OF_REPORT} AND state = 'WAITING' AND attempt < %s
"""
IS_OPEN = f"SELECT number {OPEN} LIMIT 1"
NEXT = f"SELECT copy_begun {OPEN} ORDER BY attempt, number LIMIT 1"
CANDIDATES = f"""
SELECT {NAMES} {OPEN} AND copy_begun = %s ORDER BY attempt, number LIMIT %s
"""
WRITTEN = "SELECT destination_key FROM destination_writers WHERE destination_key IN "
ASSIGN = """
UPDATE job_files SET state = 'ASSIGNED', attempt = %s, slice = %s, error_class = NULL,
  reason = NULL, corrupt_source = FALSE, destination_key = CASE number {keys} END
WHERE job_id = %s AND report = %s AND number IN ({numbers})
"""
REFUSE = """
UPDATE job_files SET state = 'FAILED', attempt = %s, slice = %s, error_class = %s, reason = %s
WHERE job_id = %s AND report = %s AND number IN ({numbers})
"""
ASSIGNED = f"""{SELECT} FORCE INDEX (state)
WHERE {OF_REPORT} AND state = 'ASSIGNED' AND attempt = %s AND slice = %s ORDER BY number
"""
FINISH = """
UPDATE job_files SET state = 'FINISHED', error_class = NULL, reason = NULL, partial = FALSE
WHERE job_id = %s AND report = %s AND state = 'ASSIGNED' AND number IN ({numbers})
"""
RECORD = """
UPDATE job_files SET state = %s, size = COALESCE(size, %s), error_class = %s, reason = %s,
  partial = %s, copy_begun = %s, corrupt_source = %s
WHERE job_id = %s AND report = %s AND state = 'ASSIGNED' AND number = %s
"""
GROUPS = f"""
SELECT state, attempt = %s AS tried, error_class, partial, copy_begun, corrupt_source,
  COUNT(*) AS count, MIN(number) AS first
FROM job_files WHERE {OF_REPORT} GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608 - constants
ONE = f"{SELECT} WHERE {OF_REPORT} AND number = %s"


@dataclass(frozen=True, kw_only=True)
class SliceLimits:
    """What the next transfer of an attempt may have; a file that is larger is alone in one.

    `number` is that of the transfer, counted from 0.
    """

    number: int
    files: int
    bytes: int


def add(
    tx: Connection,
    job_id: str,
    report: bytes,
    first: int,
    files: Sequence[ReportedFile],
    earlier: bytes | None,
) -> None:
    """Files of a report that does not count yet, numbered from `first`. Once it is done, no more.

    What is known from the `earlier` report of files of the same name goes on: which are there, and
    what may have been left where others belong.
    """
    if tx.get(THERE, job_id, report, first) is not None:
        return
    keys = [name_key(file.name) for file in files]
    known: dict[bytes, Row] = {}
    if earlier is not None:
        rows = tx.query(f"{EARLIER}({placeholders(len(keys))})", job_id, earlier, *keys)
        known = {row["name_key"]: row for row in rows}
    values: list[object] = []
    for number, (key, file) in enumerate(zip(keys, files, strict=True), first):
        row = _continued(known.get(key), file)
        row |= {"number": number, "name": file.name, "checksum": file.checksum}
        values += [job_id, report, key, *(row[field.name] for field in fields(File))]
    marks = f"({placeholders(3 + len(fields(File)))})"
    tx.execute(INSERT + ", ".join([marks] * len(files)), *values)


def _continued(known: Row | None, file: ReportedFile) -> dict[str, Any]:
    """The columns of a file beside what was reported."""
    fresh: dict[str, Any] = {
        "size": file.size, "state": FileState.WAITING, "attempt": 0, "slice": 0,
        "error_class": None, "reason": None, "partial": False, "copy_begun": False,
        "copy_recorded": False, "corrupt_source": False,
    }  # fmt: skip
    if known is None:
        return fresh
    same = known["checksum"] == file.checksum and file.size in {None, known["size"]}
    if same:
        return {name: known[name] for name in fresh}
    begun = known["copy_begun"] or known["state"] == FileState.FINISHED
    return {
        **fresh,
        "partial": begun or known["partial"],
        "copy_begun": begun,
        "copy_recorded": begun or known["copy_recorded"],
    }


def totals(tx: Connection, job_id: str, report: bytes) -> dict[str, Any]:
    """The columns of a job that say how much there is, and how much of it is done."""
    (row,) = tx.query(TOTALS, job_id, report)
    return {name: None if value is None else int(value) for name, value in row.items()}


def discard(tx: Connection, job_id: str, report: bytes, limit: int) -> int:
    """Remove files of a report that does not count; how many."""
    return tx.execute(DISCARD, job_id, report, limit)


def free_destinations(tx: Connection, job_id: str) -> None:
    """Those that the job does not write."""
    tx.execute(FREE, job_id)


def is_open(tx: Connection, job: Job) -> bool:
    """Whether there are files that the present attempt has not tried."""
    return tx.get(IS_OPEN, job.job_id, job.report, job.attempt) is not None


def assign(
    tx: Connection,
    job: Job,
    files: Sequence[File],
    slice_number: int,
    key_of: Callable[[File], bytes],
    change: Callable[[], Job],
) -> Job:
    """The job, changed by `change` to have a transfer of that number, for these files.

    A file whose destination another job writes is refused; when none is left, the job stays as it
    is, due for the next ones.
    """
    keys = {file.number: key_of(file) for file in files}
    marks = placeholders(len(keys))
    rows = tx.query(f"{WRITTEN}({marks})", *keys.values())
    written = {row["destination_key"] for row in rows}
    refused = [number for number, key in keys.items() if key in written]
    free = {number: key for number, key in keys.items() if key not in written}
    where = job.job_id, job.report
    changed = change() if free else jobs.change(tx, job, Change(columns={}, delay=0))
    if refused:
        sql = REFUSE.format(numbers=placeholders(len(refused)))
        why = ErrorClass.EXISTS, TAKEN
        tx.execute(sql, job.attempt, slice_number, *why, *where, *refused)
    if free:
        sql = ASSIGN.format(keys="WHEN %s THEN %s " * len(free), numbers=placeholders(len(free)))
        pairs = [value for pair in free.items() for value in pair]
        tx.execute(sql, job.attempt, slice_number, *pairs, *where, *free)
        transfers.add(tx, changed, [file for file in files if file.number in free])
        changed = jobs.expect(tx, job.job_id)
    else:
        outbox.add(tx, [(changed, (Routing.ATTEND,))])
    return changed


def next_slice(tx: Connection, job: Job, limits: SliceLimits) -> list[File]:
    """The next files that may be one transfer: whether it overwrites is for all of them."""
    attempt = job.job_id, job.report, job.attempt
    first = tx.get(NEXT, *attempt)
    if first is None:
        return []
    taken: list[File] = []
    size = 0
    for row in tx.query(CANDIDATES, *attempt, first["copy_begun"], limits.files):
        file = to_file(row)
        size += file.size or 0
        if taken and size > limits.bytes:
            break
        taken.append(file)
    return taken


def assigned(tx: Connection, job: Job, attempt: int, slice_number: int) -> list[File]:
    """The files of a transfer of the job, by number."""
    rows = tx.query(ASSIGNED, job.job_id, job.report, attempt, slice_number)
    return [to_file(row) for row in rows]


def record(
    tx: Connection,
    job: Job,
    transfer: OpenTransfer,
    results: Sequence[FileResult],
    what: Change,
    wake: Sequence[Routing],
) -> Job:
    """What became of the files of a transfer that is over, with a change of their job. LostRace."""
    # First the job, as everywhere; but it gives up its transfers when their files are recorded.
    jobs.lock(tx, job)
    done = [one.number for one in results if one.state is FileState.FINISHED and one.size is None]
    if done:
        sql = FINISH.format(numbers=placeholders(len(done)))
        tx.execute(sql, job.job_id, job.report, *done)
    for one in results:
        if one.state is not FileState.FINISHED or one.size is not None:
            reason = fitted(one.reason)
            tx.execute(
                RECORD, one.state, one.size, one.error_class, reason, one.partial, one.copy_begun,
                one.corrupt_source, job.job_id, job.report, one.number,
            )  # fmt: skip
    arrived = sum(one.state is FileState.FINISHED for one in results)
    transfers.close(tx, job, transfer, arrived)
    jobs.change(tx, job, what)
    transfers.count(tx, job.job_id)
    changed = jobs.expect(tx, job.job_id)
    outbox.add(tx, [(changed, wake)])
    return changed


def groups(tx: Connection, job: Job) -> list[FileGroup]:
    """All files of a job, counted by what they have in common."""
    return [
        FileGroup(
            state=FileState(row["state"]),
            tried=bool(row["tried"]),
            error_class=row["error_class"],
            partial=bool(row["partial"]),
            copy_begun=bool(row["copy_begun"]),
            corrupt_source=bool(row["corrupt_source"]),
            count=row["count"],
            first=row["first"],
        )
        for row in tx.query(GROUPS, job.attempt, job.job_id, job.report)
    ]


def one(tx: Connection, job: Job, number: int) -> File:
    (row,) = tx.query(ONE, job.job_id, job.report, number)
    return to_file(row)


def named(tx: Connection, job: Job, names: Sequence[str]) -> list[File]:
    """Those of these names, of a job that has not been archived."""
    keys = {name_key(name) for name in names}
    sql = f"{SELECT} FORCE INDEX (name_key) WHERE {OF_REPORT} AND name_key IN "
    rows = tx.query(f"{sql}({placeholders(len(keys))})", job.job_id, job.report, *sorted(keys))
    return [to_file(row) for row in rows]


def page(tx: Connection, job: Job, listing: FileListing) -> list[File]:
    """Files of a job, archived or not: by attempt and number where a state is asked for."""
    where = OF_REPORT
    values: list[object] = [job.job_id, job.report]
    attempt, number = listing.after
    index, order = "PRIMARY", "number"
    if listing.state is None:
        where += " AND number > %s"
        values += [number]
    else:
        index, order = "state", "attempt, number"
        where += " AND state = %s AND (attempt > %s OR (attempt = %s AND number > %s))"
        values += [listing.state, attempt, attempt, number]
    found: dict[int, File] = {}
    for table in ("job_files", "job_files_archive"):  # in this order: none that moves is missed
        sql = f"""
            SELECT {NAMES} FROM {table} FORCE INDEX ({index})
            WHERE {where} ORDER BY {order} LIMIT %s
            """  # noqa: S608 - constants
        found |= {row["number"]: to_file(row) for row in tx.query(sql, *values, listing.limit)}

    def place(file: File) -> tuple[int, int]:
        return (0 if listing.state is None else file.attempt), file.number

    return sorted(found.values(), key=place)[: listing.limit]


def to_file(row: Row) -> File:
    names = "partial", "copy_begun", "copy_recorded", "corrupt_source"
    flags = {name: bool(row[name]) for name in names}
    values = {field.name: row[field.name] for field in fields(File)}
    return File(**{**values, **flags, "state": FileState(row["state"])})

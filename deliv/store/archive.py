"""Jobs that ended long ago move to the archive, with their events.

Each step is a short transaction over at most `limit` rows, guarded by the fence of its lease. The
oldest jobs are found without reading the others: a job's id begins with the time of submission.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from deliv.db.database import Connection
from deliv.model.job import Job
from deliv.model.states import END_TIMES, FINAL
from deliv.store import leases
from deliv.store.columns import COLUMNS, SELECT, placeholders, to_job
from deliv.store.files import INSERTED
from deliv.store.leases import Fence

ENDED = f"""
SELECT job_id FROM jobs FORCE INDEX (due)
WHERE status = %s AND due_at IS NULL AND job_id < %s
  AND COALESCE({", ".join(END_TIMES.values())}) < %s
ORDER BY job_id LIMIT %s FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - constants
NAMES = ", ".join(COLUMNS)  # constants, as is EVENT
EVENT = "event_id, job_id, submitter, status, attempt, staged, detailed_status, error_class, time"
TRANSFER = (
    "job_id, attempt, slice, fts_endpoint, fts_jobid, open, files, bytes, active, ended, arrived"
)
# Each job that leaves locks its submitter's row of counts: whoever moves many takes them in order.
MOVING = (
    f"INSERT INTO jobs_archive ({NAMES}) SELECT {NAMES} FROM jobs WHERE job_id IN ({{ids}})",  # noqa: S608
    f"INSERT INTO job_events_archive ({EVENT}) SELECT {EVENT} FROM job_events"  # noqa: S608
    " WHERE job_id IN ({ids})",
    "DELETE FROM job_events WHERE job_id IN ({ids})",
    f"INSERT INTO transfers_archive ({TRANSFER}) SELECT {TRANSFER} FROM transfers"  # noqa: S608
    " WHERE job_id IN ({ids})",
    "DELETE FROM transfers WHERE job_id IN ({ids})",
    "DELETE FROM jobs WHERE job_id IN ({ids}) ORDER BY submitter",
)
ARCHIVED = SELECT.replace(" FROM jobs", " FROM jobs_archive")
OLDEST = "SELECT job_id FROM jobs_archive WHERE job_id < %s ORDER BY job_id LIMIT %s FOR UPDATE"
FILES = """
SELECT job_id, report, MIN(number) AS first, MAX(number) AS last, COUNT(*) AS count FROM (
  SELECT job_id, report, number FROM job_files WHERE job_id IN ({ids})
  ORDER BY job_id, report, number LIMIT %s
) AS some GROUP BY job_id, report
"""
SOME = "(job_id = %s AND report = %s AND number BETWEEN %s AND %s)"
# A report that does not count is dropped with the job.
MOVING_FILES = (
    f"""
    INSERT INTO job_files_archive ({INSERTED}) SELECT {INSERTED} FROM job_files
    WHERE ({{some}}) AND EXISTS (
      SELECT 1 FROM jobs WHERE job_id = job_files.job_id AND report = job_files.report)
    """,  # noqa: S608 - constants
    "DELETE FROM job_files WHERE {some}",
)
TRANSFERS = """
SELECT job_id, COUNT(*) AS count FROM transfers WHERE job_id IN ({ids}) GROUP BY job_id
"""
FORGET_FILES = "DELETE FROM job_files_archive WHERE job_id IN ({ids}) LIMIT %s"
FORGETTING = (
    "DELETE FROM job_events_archive WHERE job_id IN ({ids})",
    "DELETE FROM transfers_archive WHERE job_id IN ({ids})",
    "DELETE FROM jobs_archive WHERE job_id IN ({ids})",
)


def archive(tx: Connection, fence: Fence, age: float, limit: int) -> int:
    """Move jobs that ended at least `age` seconds ago and need nothing more.

    How many, or while they still have files, `limit` of which are moved at most: how many of these.
    """
    leases.guard(tx, fence)
    then = tx.now() - timedelta(seconds=age)
    ids: list[str] = []
    for status in sorted(FINAL):
        rows = tx.query(ENDED, status, first_id(then), then, limit - len(ids))
        ids += [row["job_id"] for row in rows]
    if ids and (moved := _move_files(tx, ids, limit)):
        return moved
    ids = _with_few_transfers(tx, ids, limit)
    _run(tx, MOVING, ids)
    return len(ids)


def forget(tx: Connection, fence: Fence, age: float, limit: int) -> int:
    """Remove archived jobs that were submitted at least `age` seconds ago; how many.

    While they have more than `limit` files: these, and none of the jobs.
    """
    leases.guard(tx, fence)
    first = first_id(tx.now() - timedelta(seconds=age))
    ids = [row["job_id"] for row in tx.query(OLDEST, first, limit)]
    if ids:
        forgotten = tx.execute(FORGET_FILES.format(ids=placeholders(len(ids))), *ids, limit)
        if forgotten == limit:
            return forgotten
    _run(tx, FORGETTING, ids)
    return len(ids)


def find(tx: Connection, condition: str, *params: object) -> Job | None:
    """The first archived job by this condition."""
    row = tx.get(f"{ARCHIVED} WHERE {condition} LIMIT 1", *params)
    return to_job(row) if row else None


def by_id(tx: Connection, job_ids: Sequence[str]) -> dict[str, Job]:
    """Those that are archived."""
    if not job_ids:
        return {}
    where = f"FORCE INDEX (PRIMARY) WHERE job_id IN ({placeholders(len(job_ids))})"
    rows = tx.query(f"{ARCHIVED} {where}", *job_ids)
    return {row["job_id"]: to_job(row) for row in rows}


def first_id(time: datetime) -> str:
    """What sorts before every UUID of version 7 made at `time` or later (RFC 9562)."""
    digits = f"{round(time.astimezone(UTC).timestamp() * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def _move_files(tx: Connection, ids: list[str], limit: int) -> int:
    rows = tx.query(FILES.format(ids=placeholders(len(ids))), *ids, limit)
    some = [row[name] for row in rows for name in ("job_id", "report", "first", "last")]
    for statement in MOVING_FILES if rows else ():
        tx.execute(statement.format(some=" OR ".join([SOME] * len(rows))), *some)
    moved = sum(row["count"] for row in rows)
    return moved if moved == limit else 0


def _with_few_transfers(tx: Connection, ids: list[str], limit: int) -> list[str]:
    """As many of the jobs as have `limit` transfers together; at least one of them."""
    rows = tx.query(TRANSFERS.format(ids=placeholders(len(ids))), *ids) if ids else []
    counts = {row["job_id"]: row["count"] for row in rows}
    totals = accumulate(counts.get(job_id, 0) for job_id in ids)
    few = [job_id for job_id, total in zip(ids, totals, strict=True) if total <= limit]
    return few or ids[:1]


def _run(tx: Connection, statements: tuple[str, ...], ids: list[str]) -> None:
    if ids:
        for statement in statements:
            tx.execute(statement.format(ids=placeholders(len(ids))), *ids)

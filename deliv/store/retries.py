"""Which job repeats which. The column: deliv/store/sql/0015_retries.sql."""

from __future__ import annotations

from collections.abc import Collection

from deliv.db.database import Connection
from deliv.model.job import Job
from deliv.store import archive, jobs
from deliv.store.columns import SELECT, placeholders, to_job

LOOKED_BACK = 10
REPEATING = f"{SELECT} FORCE INDEX (retry_of) WHERE retry_of IN "
ARCHIVED = REPEATING.replace(" FROM jobs", " FROM jobs_archive")


def of(tx: Connection, job_ids: Collection[str], *, lock: bool = False) -> dict[str, Job]:
    """The job that repeats each of these, by the id of the repeated one; there is one at most.

    In this order, since jobs move to the archive. With `lock` after a transaction that is still
    committing some.
    """
    found = _query(tx, REPEATING, set(job_ids), " FOR UPDATE" if lock else "")
    return found | _query(tx, ARCHIVED, set(job_ids) - found.keys(), "")


def copied_before(tx: Connection, job: Job) -> list[Job]:
    """Of the jobs that it repeats, one after another, those that FTS was to copy; the last first.

    Of the last LOOKED_BACK ones.
    """
    copied = []
    earlier: Job | None = job
    for _ in range(LOOKED_BACK):
        if earlier is None or earlier.retry_of is None:
            break
        of_id = "job_id = %s", earlier.retry_of
        earlier = jobs.find(tx, *of_id) or archive.find(tx, *of_id)
        if earlier is not None and earlier.time_transferring is not None:
            copied.append(earlier)
    return copied


def _query(tx: Connection, sql: str, job_ids: set[str], end: str) -> dict[str, Job]:
    if not job_ids:
        return {}
    rows = tx.query(f"{sql}({placeholders(len(job_ids))}){end}", *sorted(job_ids))
    return {row["retry_of"]: to_job(row) for row in rows}

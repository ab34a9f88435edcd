"""Reading jobs and changing them by compare-and-set."""

from __future__ import annotations

from collections.abc import Sequence

from deliv.db.database import Connection, Duplicate
from deliv.errors import DestinationBusy, LostRace
from deliv.model.job import Job
from deliv.model.phase import AT_FTS, Phase
from deliv.model.states import UNFINISHED, Event, Status, after
from deliv.store import outbox, transfers
from deliv.store.columns import (
    LATER,
    SELECT,
    Change,
    microseconds,
    placeholders,
    to_job,
)
from deliv.store.conditions import POSTED, in_phase, of_status
from deliv.store.outbox import Routing
from deliv.store.rows import JobEvent

ADMITTED = frozenset(Status) - {Status.SUBMITTED}

CLAIM = f"""
UPDATE jobs SET due_at = {LATER}, version = version + 1
WHERE job_id = %s AND due_at <= NOW(6) AND NOT {in_phase(Phase.QUEUED)}
"""  # noqa: S608 - constants
DUE = f"""
SELECT job_id FROM jobs FORCE INDEX (due)
WHERE {of_status(ADMITTED)} AND due_at <= NOW(6)
ORDER BY due_at LIMIT %s
"""  # noqa: S608 - constants
EXPIRED = f"""
SELECT job_id FROM jobs FORCE INDEX (deadline)
WHERE {of_status(UNFINISHED)} AND deadline <= %s
  AND deadline_passed IS NULL AND cancel_requested IS NULL
ORDER BY deadline LIMIT %s
"""  # noqa: S608 - constants
EVENTS = """
SELECT event_id, job_id, submitter, status, attempt, staged, detailed_status, error_class, time
FROM job_events WHERE job_id = %s ORDER BY event_id
"""
ARCHIVED_EVENTS = EVENTS.replace("job_events", "job_events_archive")
BY_FTS = f"""{SELECT} FORCE INDEX (fts_jobid)
WHERE {in_phase(*AT_FTS)} AND fts_endpoint = %s AND fts_jobid IN"""
BY_ID_AT_FTS = f"""{SELECT} FORCE INDEX (PRIMARY)
WHERE {in_phase(*AT_FTS)} AND fts_endpoint = %s AND job_id IN"""
SINGLE_FILE_OWNERS = f"""
SELECT DISTINCT IF(copied_as = 'user', submitter, NULL) AS owner FROM jobs FORCE INDEX (polled)
WHERE {in_phase(*AT_FTS)} AND fts_endpoint = %s AND report IS NULL ORDER BY owner
"""  # noqa: S608 - constants
TAKEN_BY_FTS = f"""{SELECT} FORCE INDEX (polled)
WHERE {POSTED} AND fts_endpoint = %s AND job_id > %s
  AND (fts_posted <= NOW(6) - INTERVAL %s MICROSECOND OR fts_posted > NOW(6))
ORDER BY job_id LIMIT %s
"""
LOCK = "SELECT version FROM jobs WHERE job_id = %s FOR UPDATE"


def find(tx: Connection, condition: str, *params: object) -> Job | None:
    row = tx.get(f"{SELECT} WHERE {condition}", *params)
    return to_job(row) if row else None


def by_id(tx: Connection, job_ids: Sequence[str], *, lock: bool = False) -> dict[str, Job]:
    """Those that there are. With `lock` after a transaction that is still committing some."""
    if not job_ids:
        return {}
    sql = f"{SELECT} FORCE INDEX (PRIMARY) WHERE job_id IN ({placeholders(len(job_ids))})"
    rows = tx.query(sql + (" FOR UPDATE" if lock else ""), *job_ids)
    return {row["job_id"]: to_job(row) for row in rows}


def expect(tx: Connection, job_id: str) -> Job:
    job = find(tx, "job_id = %s", job_id)
    if job is None:
        raise LookupError(f"the job {job_id} is gone")
    return job


def lock(tx: Connection, job: Job) -> None:
    """It stays as it is until the transaction ends. LostRace unless it is as it was read."""
    row = tx.get(LOCK, job.job_id)
    if row is None or row["version"] != job.version:
        raise LostRace(f"the job {job.job_id} is not at version {job.version} any more")


def claim(tx: Connection, job_id: str, timeout: float) -> Job | None:
    if not tx.execute(CLAIM, microseconds(timeout), job_id):
        return None
    return expect(tx, job_id)


def change(tx: Connection, job: Job, what: Change) -> Job:
    """Compare-and-set on the version that `job` was read with."""
    terms, values = what.assignments()
    sql = f"UPDATE jobs SET {terms} WHERE job_id = %s AND version = %s"  # noqa: S608 - see Change
    try:
        changed = tx.execute(sql, *values, job.job_id, job.version)
    except Duplicate as error:
        raise DestinationBusy(f"another job writes the destination of {job.job_id}") from error
    if not changed:
        raise LostRace(f"the job {job.job_id} is not at version {job.version} any more")
    return expect(tx, job.job_id)


def transition(tx: Connection, job: Job, what: Change, wake: Sequence[Routing]) -> Job:
    """A change that is announced to the broker."""
    changed = change(tx, job, what)
    outbox.add(tx, [(changed, (*wake, Routing.EVENT))])
    return changed


def applied(tx: Connection, job: Job, what: Change) -> Job | None:
    """The job if `what` was applied to it, None if nothing was. LostRace otherwise.

    Waits for a transaction that is still being committed.
    """
    found = find(tx, "job_id = %s FOR UPDATE", job.job_id)
    if found is None or found.version == job.version:
        return None
    if found.version == job.version + 1 and what.is_in(found):
        return found
    raise LostRace(f"the job {job.job_id} went on to version {found.version}")


def event_change(job: Job, event: Event, delay: float | None, columns: dict[str, object]) -> Change:
    return Change(status=after(job.status, event), delay=delay, columns=columns)


def due(tx: Connection, limit: int) -> list[str]:
    return [row["job_id"] for row in tx.query(DUE, limit)]


def expired(tx: Connection, limit: int) -> list[str]:
    return [row["job_id"] for row in tx.query(EXPIRED, tx.now(), limit)]


def by_fts(tx: Connection, endpoint: str, fts_ids: Sequence[str]) -> list[Job]:
    if not fts_ids:
        return []
    marks = placeholders(len(fts_ids))
    rows = tx.query(f"{BY_FTS} ({marks})", endpoint, *fts_ids)
    known = {row["job_id"] for row in rows}
    if ids := transfers.owners(tx, fts_ids) - known:
        rows += tx.query(f"{BY_ID_AT_FTS} ({placeholders(len(ids))})", endpoint, *ids)
    return [to_job(row) for row in rows]


def single_file_owners(tx: Connection, endpoint: str) -> list[str | None]:
    return [row["owner"] for row in tx.query(SINGLE_FILE_OWNERS, endpoint)]


def transferring(
    tx: Connection, endpoint: str, older_than: float, after_id: str, limit: int
) -> list[Job]:
    rows = tx.query(TAKEN_BY_FTS, endpoint, after_id, microseconds(older_than), limit)
    return [to_job(row) for row in rows]


def events(tx: Connection, job_id: str) -> list[JobEvent]:
    rows = tx.query(EVENTS, job_id) or tx.query(ARCHIVED_EVENTS, job_id)
    return [
        JobEvent(**{**row, "status": Status(row["status"]), "staged": bool(row["staged"])})
        for row in rows
    ]

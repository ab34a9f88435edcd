"""Stagings and who needs them: deliv/store/sql/0019_stagings.sql.

A job's row is locked before that of its staging. Whoever changes a staging may then change those of
its jobs that wait for it: these ask for no lock but their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from hashlib import sha256

from deliv.db.database import Connection, Row
from deliv.errors import LostRace
from deliv.model.file import ReportedFile
from deliv.model.job import Job
from deliv.model.staging import REPORT_EXPECTED, SharedStaging, StagingState, another_id
from deliv.model.states import Status
from deliv.store import jobs, leases, outbox
from deliv.store.columns import (
    KEEP,
    LATER,
    NOW,
    SELECT,
    Change,
    Sentinel,
    assignments,
    fitted,
    microseconds,
    placeholders,
    to_job,
)
from deliv.store.conditions import of_status
from deliv.store.leases import Fence
from deliv.store.outbox import Routing

COLUMNS = tuple(field.name for field in fields(SharedStaging))
FIND = f"SELECT {', '.join(COLUMNS)} FROM stagings WHERE staging_id = %s"  # noqa: S608 - constants
OPEN = FIND.replace("staging_id = %s", "open_key = %s FOR UPDATE")
BEGIN = """
INSERT INTO stagings (staging_id, product_id, open_key, state, code, accepted, due_at)
VALUES (%s, %s, %s, %s, %s, %s, NOW(6))
"""
CLAIM = f"""
UPDATE stagings SET due_at = {LATER}, version = version + 1
WHERE staging_id = %s AND due_at <= NOW(6)
"""  # noqa: S608 - constants
DUE = """
SELECT staging_id FROM stagings FORCE INDEX (due) WHERE due_at <= NOW(6) ORDER BY due_at LIMIT %s
"""
# It is of the index in each status, so that jobs which have left long ago are not read.
NEEDED = f"""
SELECT job_id FROM jobs FORCE INDEX (staging)
WHERE staging_id = %s AND {of_status(frozenset(Status))} AND time_released IS NULL
  AND job_id <> %s LIMIT 1
"""  # noqa: S608 - constants
WAIT = "staging_id = %s AND status = 'STAGING' AND time_staged IS NULL"
WAITING = f"{SELECT} FORCE INDEX (staging) WHERE {WAIT} ORDER BY job_id"
WAKE = f"UPDATE jobs FORCE INDEX (staging) SET due_at = NOW(6) WHERE {WAIT}"  # noqa: S608 - constants
TELL = f"UPDATE jobs FORCE INDEX (staging) SET {{terms}} WHERE {WAIT}"  # noqa: S608 - constants
# The release before decides by it, and by nothing of this one: no version.
TELL_CODE = f"UPDATE jobs SET stager_callback = %s WHERE job_id = %s AND {WAIT}"  # noqa: S608
FILE = "name, size, checksum"
ADD = f"INSERT INTO staging_files (staging_id, report, number, {FILE}) VALUES "  # noqa: S608
FILES = f"""
SELECT {FILE} FROM staging_files
WHERE staging_id = %s AND report = %s AND number >= %s ORDER BY number LIMIT %s
"""  # noqa: S608 - constants
DISCARD = "DELETE FROM staging_files WHERE staging_id = %s LIMIT %s"
DISCARD_REPORT = "DELETE FROM staging_files WHERE staging_id = %s AND report = %s LIMIT %s"
FORGET_FILES = "DELETE FROM staging_files WHERE staging_id IN"
FORGET = "DELETE FROM stagings WHERE staging_id IN"
RELEASED = "SELECT staging_id FROM stagings WHERE released < %s ORDER BY released LIMIT %s"


def find(tx: Connection, staging_id: str, *, lock: bool = False) -> SharedStaging | None:
    row = tx.get(FIND + (" FOR UPDATE" if lock else ""), staging_id)
    return to_staging(row) if row else None


def expect(tx: Connection, staging_id: str) -> SharedStaging:
    staging = find(tx, staging_id)
    if staging is None:
        raise LookupError(f"the staging {staging_id} is gone")
    return staging


def enter(tx: Connection, job: Job, wait: float) -> tuple[Job, SharedStaging]:
    """The job and its staging: the one that it has, the open one of its product, or a new one.

    A job that waits for it rests for `wait` seconds: it is due when there is news. LostRace.
    """
    jobs.lock(tx, job)
    staging = find(tx, job.staging_id) if job.staging_id is not None else None
    if staging is None:
        found = open_for(tx, job)
        asked = job.stager_callback is not None  # by the release before, for this job alone
        staging = found if found and not asked else _begin(tx, job, shared=found is None)
    elif staging.state not in REPORT_EXPECTED:
        return job, staging
    columns: dict[str, object] = {"staging_id": staging.staging_id}
    if staging.state is StagingState.STAGED:
        return jobs.change(tx, job, Change(columns=columns)), staging
    columns["stager_status"] = staging.status or job.stager_status
    columns["stager_accepted"] = staging.accepted if staging.state is StagingState.WAITING else None
    return jobs.change(tx, job, Change(columns=columns, delay=wait)), staging


def open_for(tx: Connection, job: Job) -> SharedStaging | None:
    """The staging of the job's product that it may join, locked: so it stays."""
    row = tx.get(OPEN, _key(job))
    return to_staging(row) if row else None


def _begin(tx: Connection, job: Job, *, shared: bool) -> SharedStaging:
    """Under the job's id, unless the stager may have another copy by that."""
    state = StagingState.WAITING if job.stager_accepted else StagingState.ASKING
    asked = job.stager_callback, job.stager_accepted
    staging_id = job.job_id
    again = job.attempt > 1 and job.fts_endpoint is None  # what a transfer reads is staged again
    if find(tx, staging_id) is not None:  # others may need it still
        staging_id = another_id(job.job_id, job.version)
    elif again and job.stager_callback is None:  # by the release before, in another attempt
        staging_id = another_id(job.job_id, job.version)
        tx.execute(BEGIN, job.job_id, job.product_id, None, StagingState.RELEASING, None, None)
    tx.execute(BEGIN, staging_id, job.product_id, _key(job) if shared else None, state, *asked)
    return expect(tx, staging_id)


def _key(job: Job) -> bytes:
    return sha256(job.product_id.encode()).digest()


def due(tx: Connection, limit: int) -> list[str]:
    return [row["staging_id"] for row in tx.query(DUE, limit)]


def claim(tx: Connection, staging_id: str, timeout: float) -> SharedStaging | None:
    """None when it is not due. RELEASING when no job needs it any more."""
    if not tx.execute(CLAIM, microseconds(timeout), staging_id):
        return None
    staging = expect(tx, staging_id)
    released = {StagingState.RELEASING, StagingState.RELEASED}
    if staging.state in released or is_needed(tx, staging_id):
        return staging
    return change(tx, staging, {"state": StagingState.RELEASING}, KEEP)


def change(
    tx: Connection,
    staging: SharedStaging,
    columns: Mapping[str, object],
    delay: float | Sentinel | None,
) -> SharedStaging:
    """Compare-and-set on the version that `staging` was read with."""
    fitting = {name: fitted(value) for name, value in columns.items()}
    terms, values = assignments(fitting, delay)
    sql = f"UPDATE stagings SET {terms} WHERE staging_id = %s AND version = %s"  # noqa: S608
    if not tx.execute(sql, *values, staging.staging_id, staging.version):
        raise LostRace(f"the staging {staging.staging_id} is not at version {staging.version}")
    return expect(tx, staging.staging_id)


def applied(
    tx: Connection, staging: SharedStaging, columns: Mapping[str, object]
) -> SharedStaging | None:
    """The staging if it was changed like this, None if it was not changed. LostRace otherwise."""
    found = find(tx, staging.staging_id, lock=True)
    if found is None or found.version == staging.version:
        return None
    same = all(
        (value is NOW and getattr(found, name) is not None) or getattr(found, name) == fitted(value)
        for name, value in columns.items()
    )
    if found.version == staging.version + 1 and same:
        return found
    raise LostRace(f"the staging {staging.staging_id} went on to version {found.version}")


def tell(tx: Connection, staging: SharedStaging, columns: Mapping[str, object]) -> None:
    """Set columns of the jobs that wait for it."""
    terms, values = Change(columns=columns).assignments()
    tx.execute(TELL.format(terms=terms), *values, staging.staging_id)


def tell_code(tx: Connection, staging: SharedStaging) -> None:
    """The job that opened it has the digest, too, for the release before."""
    tx.execute(TELL_CODE, staging.code, staging.staging_id, staging.staging_id)


def wake(tx: Connection, staging: SharedStaging) -> None:
    """The jobs that wait for it are due."""
    if tx.execute(WAKE, staging.staging_id):
        outbox.add(tx, [(job, (Routing.ATTEND,)) for job in waiting(tx, staging)])


def waiting(tx: Connection, staging: SharedStaging) -> list[Job]:
    return [to_job(row) for row in tx.query(WAITING, staging.staging_id)]


def is_needed(tx: Connection, staging_id: str, *, but: str = "") -> bool:
    """By any other job."""
    return tx.get(NEEDED, staging_id, but) is not None


def leave(tx: Connection, job: Job, wake: Sequence[Routing]) -> tuple[Job, SharedStaging | None]:
    """The job, which has ended and needs its staging no more, and what it has to give back.

    Where others need it, or nothing is left, the job is closed. Else it has no `time_released` yet:
    its staging is RELEASING, or None when the release before staged for it alone. LostRace.
    """
    jobs.lock(tx, job)
    staging = find(tx, job.staging_id or job.job_id, lock=True)
    if staging is None:
        return job, None
    released = staging.state is StagingState.RELEASED
    if job.staging_id is None or released or is_needed(tx, staging.staging_id, but=job.job_id):
        return _close(tx, job, wake), None
    if staging.state is not StagingState.RELEASING:
        staging = change(tx, staging, {"state": StagingState.RELEASING}, None)
    return job, staging


def given_back(
    tx: Connection, staging: SharedStaging | None, job: Job | None, wake: Sequence[Routing]
) -> None:
    """The stager has confirmed it, to this job's worker if there is one. LostRace."""
    if job is not None:
        jobs.lock(tx, job)
    if staging is not None:
        columns: dict[str, object] = {"state": StagingState.RELEASED, "released": NOW}
        change(tx, staging, columns, None if staging.report is None else 0)
    if job is not None:
        _close(tx, job, wake)


def add_files(
    tx: Connection, staging_id: str, report: bytes, first: int, files: Sequence[ReportedFile]
) -> None:
    """Some files of a report, numbered from `first`. Once it is done, no more."""
    if tx.query(FILES, staging_id, report, first, 1):
        return
    values: list[object] = []
    for number, file in enumerate(files, first):
        values += [staging_id, report, number, file.name, file.size, file.checksum]
    tx.execute(ADD + ", ".join([f"({placeholders(6)})"] * len(files)), *values)


def files(tx: Connection, staging: SharedStaging, first: int, limit: int) -> list[ReportedFile]:
    """Those of the report that counts, from number `first` on."""
    rows = tx.query(FILES, staging.staging_id, staging.report, first, limit)
    return [ReportedFile(**row) for row in rows]


def discard(tx: Connection, staging_id: str, report: bytes | None, limit: int) -> int:
    """Remove files, of one report or of all; how many."""
    if report is None:
        return tx.execute(DISCARD, staging_id, limit)
    return tx.execute(DISCARD_REPORT, staging_id, report, limit)


def forget(tx: Connection, fence: Fence, age: float, limit: int) -> int:
    """Remove what was given back `age` seconds ago; how many, or how many of the files left."""
    leases.guard(tx, fence)
    rows = tx.query(RELEASED, tx.now() - timedelta(seconds=age), limit)
    ids = [row["staging_id"] for row in rows]
    if not ids:
        return 0
    marks = placeholders(len(ids))
    left = tx.execute(f"{FORGET_FILES} ({marks}) LIMIT %s", *ids, limit)
    if left == limit:
        return left
    return tx.execute(f"{FORGET} ({marks})", *ids)


def _close(tx: Connection, job: Job, wake: Sequence[Routing]) -> Job:
    closed = jobs.change(tx, job, Change(columns={"time_released": NOW}, delay=None))
    outbox.add(tx, [(closed, wake)])
    return closed


def to_staging(row: Row) -> SharedStaging:
    return SharedStaging(**{**row, "state": StagingState(row["state"])})

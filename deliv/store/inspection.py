"""What `deliv check` reads: all there is, page by page, each page as of one moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TypeVar

from deliv.db.database import Connection, Database
from deliv.model.job import Job
from deliv.model.phase import Phase
from deliv.model.staging import SharedStaging
from deliv.model.states import Status
from deliv.store import counts, jobs, staging_area, stagings, under_way
from deliv.store.clock import STEPS_BACK
from deliv.store.columns import PROSE, placeholders, to_job
from deliv.store.conditions import POSTED, in_phase

T = TypeVar("T")

# The transaction that follows sees the database as of its first query.
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
COLUMNS = ", ".join(field.name for field in fields(Job) if field.name not in PROSE)
STAGING = ", ".join(stagings.COLUMNS)
LAST = "\x7f"  # sorts behind every id
NOW = "SELECT NOW(6) AS now"
OUTBOX = """
SELECT COUNT(*) AS number, MIN(created) AS oldest, MIN(job_id) AS example
FROM outbox WHERE created < NOW(6) - INTERVAL %s SECOND
"""
LEASES = """
SELECT name, owner, fence, TIMESTAMPDIFF(SECOND, expires, NOW(6)) AS expired FROM leases
ORDER BY name
"""
SHARED = """
SELECT fts_jobid, COUNT(*) AS number, MIN(job_id) AS first, MAX(job_id) AS last FROM jobs
WHERE fts_jobid IS NOT NULL GROUP BY fts_jobid HAVING COUNT(*) > 1 LIMIT %s
"""
USERS = f"""
SELECT dn FROM delegations WHERE expires > NOW(6)
UNION SELECT submitter FROM jobs FORCE INDEX (polled)
WHERE {POSTED} AND copied_as = 'user'
ORDER BY 1
"""  # noqa: S608 - constants
COUNT = ", ".join(f"-COUNT(IF(status = '{status}', 1, NULL))" for status in Status)
# Of jobs and counts as of one moment: they change in the same transactions.
MISCOUNTED = f"""
SELECT DISTINCT submitter FROM (
  SELECT submitter, '' AS label, {counts.NAMES} FROM submitter_jobs
  UNION ALL SELECT submitter, '', {COUNT} FROM jobs GROUP BY submitter
  UNION ALL SELECT submitter, label, {counts.NAMES} FROM label_jobs
  UNION ALL SELECT submitter, label, {COUNT} FROM jobs FORCE INDEX (labelled_status)
  WHERE label IS NOT NULL GROUP BY submitter, label
  UNION ALL SELECT submitter, label, {COUNT} FROM jobs_archive FORCE INDEX (labelled_status)
  WHERE label IS NOT NULL GROUP BY submitter, label
) AS counted
GROUP BY submitter, label
HAVING {" OR ".join(f"SUM({name}) <> 0" for name in counts.COLUMNS.values())}
ORDER BY submitter LIMIT %s
"""  # noqa: S608 - constants
# A job's files are with its open transfers, and with nothing else.
UNASSIGNED_FILES = """
SELECT jobs.job_id FROM jobs JOIN job_files USING (job_id)
LEFT JOIN transfers ON transfers.job_id = jobs.job_id AND transfers.attempt = job_files.attempt
  AND transfers.slice = job_files.slice AND open
WHERE job_files.state = 'ASSIGNED' AND (transfers.job_id IS NULL OR NOT (
  jobs.status = 'TRANSFERRING' AND jobs.fts_jobid IS NOT NULL
  AND jobs.report <=> job_files.report))
UNION
SELECT jobs.job_id FROM jobs JOIN transfers USING (job_id)
WHERE open AND status = 'TRANSFERRING' AND NOT EXISTS (
  SELECT 1 FROM job_files AS one
  WHERE one.job_id = jobs.job_id AND one.report = jobs.report AND one.state = 'ASSIGNED'
    AND one.attempt = transfers.attempt AND one.slice = transfers.slice)
ORDER BY job_id LIMIT %s
"""
TWICE = "SELECT job_id FROM jobs_archive JOIN jobs USING (job_id) ORDER BY job_id LIMIT %s"
# Files that move to the archive are in either table.
OF_JOB = "WHERE one.job_id = jobs.job_id AND one.report = jobs.report AND one.state = 'FINISHED'"
MISCOUNTED_FILES = f"""
SELECT job_id, version, status FROM (
  SELECT job_id, version, status, files_done, (
      SELECT COUNT(*) FROM job_files AS one {OF_JOB}
    ) + (
      SELECT COUNT(*) FROM job_files_archive AS one {OF_JOB}
    ) AS found
  FROM jobs WHERE report IS NOT NULL
) AS counted
WHERE NOT files_done <=> found ORDER BY job_id LIMIT %s
"""  # noqa: S608 - constants
STRAY_FILES = """
SELECT DISTINCT job_id, report FROM job_files
WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE job_id = job_files.job_id)
  AND NOT EXISTS (SELECT 1 FROM jobs_archive WHERE job_id = job_files.job_id)
ORDER BY job_id LIMIT %s
"""
STRAY_WRITERS = """
SELECT DISTINCT job_id FROM destination_writers AS held
WHERE NOT EXISTS (
    SELECT 1 FROM jobs WHERE job_id = held.job_id AND destination_key = held.destination_key)
  AND NOT EXISTS (
    SELECT 1 FROM job_files
    WHERE job_id = held.job_id AND destination_key = held.destination_key AND state = 'ASSIGNED')
ORDER BY job_id LIMIT %s
"""
RESTLESS = """
SELECT job_id, version FROM jobs FORCE INDEX (resting) LEFT JOIN rests ON place_key = rest
WHERE rest IS NOT NULL AND place_key IS NULL ORDER BY job_id LIMIT %s
"""
AWAITED = f"""
SELECT {COLUMNS} FROM jobs FORCE INDEX (due)
WHERE {in_phase(Phase.WAITING_FOR_STAGER)} AND staging_id IS NULL AND job_id > %s
ORDER BY job_id LIMIT %s
"""  # noqa: S608 - COLUMNS are the names of Job's fields
AWAITED_STAGINGS = f"""
SELECT {STAGING} FROM stagings WHERE state = 'WAITING' AND staging_id > %s
ORDER BY staging_id LIMIT %s
"""  # noqa: S608 - constants
# One that is given back by the worker of its last job rests meanwhile.
UNATTENDED = f"""
SELECT {STAGING} FROM stagings
WHERE due_at < NOW(6) - INTERVAL %s SECOND
  OR (due_at IS NULL AND state IN ('ASKING', 'WAITING'))
  OR (due_at IS NULL AND state <> 'RELEASED' AND NOT EXISTS (
    SELECT 1 FROM jobs WHERE jobs.staging_id = stagings.staging_id AND time_released IS NULL))
ORDER BY staging_id LIMIT %s
"""  # noqa: S608 - constants
UNHEARD = """
SELECT job_id, jobs.version FROM jobs LEFT JOIN stagings USING (staging_id)
WHERE jobs.status = 'STAGING' AND jobs.staging_id IS NOT NULL AND jobs.time_staged IS NULL
  AND jobs.due_at > NOW(6) + INTERVAL %s SECOND
  AND COALESCE(stagings.state, '') NOT IN ('ASKING', 'WAITING')
ORDER BY job_id LIMIT %s
"""
STRAY_STAGING_FILES = """
SELECT DISTINCT staging_id FROM staging_files
WHERE NOT EXISTS (SELECT 1 FROM stagings WHERE staging_id = staging_files.staging_id)
ORDER BY staging_id LIMIT %s
"""
RELEASED = f"""
SELECT {COLUMNS} FROM jobs WHERE time_released IS NOT NULL ORDER BY job_id DESC LIMIT %s
"""  # noqa: S608 - as above


@dataclass(frozen=True, kw_only=True)
class Step:
    """A row of a job's history, without its prose."""

    status: Status
    attempt: int
    staged: bool
    time: datetime


@dataclass(frozen=True, kw_only=True)
class Record:
    """A job without its prose, and its history."""

    job: Job
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A stretch of job ids up to `last`, as of `now`. `strays`: ids that only have events."""

    now: datetime
    records: tuple[Record, ...]
    strays: tuple[str, ...]
    last: str
    full: bool


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Messages that have waited for the broker for too long; `example` is one of their jobs."""

    number: int
    oldest: datetime | None
    example: str | None


@dataclass(frozen=True, kw_only=True)
class LeaseRow:
    """`expired` in seconds; negative while it is held."""

    name: str
    owner: str
    fence: int
    expired: int


@dataclass(frozen=True, kw_only=True)
class StepBack:
    """Of the database's clock: the last time noted before, and the first one after."""

    was: datetime
    became: datetime


class Inspection:
    """All raise errors.DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        return await self._database.transaction(_now)

    async def page(self, after: str, limit: int, *, archived: bool = False) -> Page:
        """At most `limit` jobs whose ids come after `after`, by id, with their histories."""
        suffix = "_archive" if archived else ""
        return await self._seen(lambda tx: _page(tx, suffix, after, limit))

    async def known(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Those of these jobs that there are, archived or not."""

        def run(tx: Connection) -> dict[str, Job]:
            found: dict[str, Job] = {}
            for table in ("jobs", "jobs_archive"):
                if missing := [job_id for job_id in job_ids if job_id not in found]:
                    marks = placeholders(len(missing))
                    sql = f"SELECT {COLUMNS} FROM {table} WHERE job_id IN ({marks})"  # noqa: S608 - constants
                    found |= {row["job_id"]: to_job(row) for row in tx.query(sql, *missing)}
            return found

        return await self._seen(run)

    async def awaited(self, after: str, limit: int) -> list[Job]:
        """A page of jobs, staged alone, that the stager has accepted and not reported on, by id."""
        return await self._jobs(AWAITED, after, limit)

    async def awaited_stagings(self, after: str, limit: int) -> list[SharedStaging]:
        """A page of those that the stager has accepted and not reported on, by id."""
        return await self._stagings(AWAITED_STAGINGS, after, limit)

    async def known_stagings(self, staging_ids: Sequence[str]) -> dict[str, SharedStaging]:
        """Those of these that there are."""
        marks = placeholders(len(staging_ids))
        sql = f"SELECT {STAGING} FROM stagings WHERE staging_id IN ({marks})"  # noqa: S608 - constants
        return {one.staging_id: one for one in await self._stagings(sql, *staging_ids)}

    async def unattended_stagings(self, patience: float, limit: int) -> list[SharedStaging]:
        """Those that need attention, and were not attended to in `patience` seconds, or never."""
        return await self._stagings(UNATTENDED, patience, limit)

    async def unheard(self, patience: float, limit: int) -> list[tuple[str, int]]:
        """Jobs that would wait `patience` seconds for a staging that is over: (id, version)."""
        rows = await self._database.query(UNHEARD, patience, limit)
        return [(row["job_id"], row["version"]) for row in rows]

    async def stray_staging_files(self, limit: int) -> list[str]:
        """Ids of stagings that there are not, but their files."""
        return [row["staging_id"] for row in await self._database.query(STRAY_STAGING_FILES, limit)]

    async def released(self, limit: int) -> list[Job]:
        """The latest jobs whose staged copies were given back."""
        return await self._jobs(RELEASED, limit)

    async def by_fts(self, endpoint: str, fts_ids: Sequence[str]) -> list[Job]:
        """The TRANSFERRING jobs among these."""
        return await self._database.transaction(lambda tx: jobs.by_fts(tx, endpoint, fts_ids))

    async def shared_transfers(self, limit: int) -> list[tuple[str, str, str]]:
        """FTS ids that several jobs have: (id, one of the jobs, another one)."""
        rows = await self._database.query(SHARED, limit)
        return [(row["fts_jobid"], row["first"], row["last"]) for row in rows]

    async def miscounted(self, limit: int) -> list[str]:
        """Submitters whose counts, or those of a label of theirs, are not those of their jobs."""
        queries = MISCOUNTED, under_way.MISCOUNTED
        return sorted(
            {row["submitter"] for sql in queries for row in await self._database.query(sql, limit)}
        )

    async def space_miscounted(self) -> bool:
        """Whether the space that stagings take is counted wrong."""
        return bool(await self._database.query(staging_area.MISCOUNTED))

    async def twice(self, limit: int) -> list[str]:
        """Ids of jobs that are in `jobs` and in the archive."""
        return [row["job_id"] for row in await self._database.query(TWICE, limit)]

    async def miscounted_files(self, limit: int) -> list[tuple[str, int, Status]]:
        """Jobs whose count of files that are there is wrong: (id, version, status)."""
        rows = await self._database.query(MISCOUNTED_FILES, limit)
        return [(row["job_id"], row["version"], Status(row["status"])) for row in rows]

    async def unassigned_files(self, limit: int) -> list[str]:
        """Jobs that have files with a transfer, but no transfer, or one without files."""
        return [row["job_id"] for row in await self._database.query(UNASSIGNED_FILES, limit)]

    async def stray_files(self, limit: int) -> list[tuple[str, bytes]]:
        """Reports with files of jobs that there are not: (job id, report)."""
        rows = await self._database.query(STRAY_FILES, limit)
        return [(row["job_id"], row["report"]) for row in rows]

    async def stray_writers(self, limit: int) -> list[str]:
        """Jobs, or what were jobs, that keep others from files which they do not write."""
        return [row["job_id"] for row in await self._database.query(STRAY_WRITERS, limit)]

    async def restless(self, limit: int) -> list[tuple[str, int]]:
        """Jobs that rest at a place that there is not: (id, version)."""
        rows = await self._database.query(RESTLESS, limit)
        return [(row["job_id"], row["version"]) for row in rows]

    async def users(self) -> list[str]:
        """DNs under whose identity FTS may be copying: those who have delegated, or must have."""
        return [row["dn"] for row in await self._database.query(USERS)]

    async def waiting(self, age: float) -> Waiting:
        """The messages that are older than `age` seconds."""
        (row,) = await self._database.query(OUTBOX, age)
        return Waiting(**row)

    async def leases(self) -> list[LeaseRow]:
        return [LeaseRow(**row) for row in await self._database.query(LEASES)]

    async def steps_back(self, limit: int) -> tuple[StepBack, ...]:
        """The latest ones of the database's clock, in their order."""
        rows = await self._database.query(STEPS_BACK, limit)
        return tuple(StepBack(**row) for row in reversed(rows))

    async def _jobs(self, sql: str, *parameters: object) -> list[Job]:
        return [to_job(row) for row in await self._database.query(sql, *parameters)]

    async def _stagings(self, sql: str, *parameters: object) -> list[SharedStaging]:
        return [stagings.to_staging(row) for row in await self._database.query(sql, *parameters)]

    async def _seen(self, function: Callable[[Connection], T]) -> T:
        def run(tx: Connection) -> T:
            tx.query(SNAPSHOT)
            return function(tx)

        return await self._database.transaction(run)


def _page(tx: Connection, suffix: str, after: str, limit: int) -> Page:
    now = _now(tx)
    sql = f"SELECT {COLUMNS} FROM jobs{suffix} WHERE job_id > %s ORDER BY job_id LIMIT %s"  # noqa: S608 - constants
    found = tx.query(sql, after, limit)
    full = len(found) == limit
    last = found[-1]["job_id"] if full else LAST
    steps = _steps(tx, f"job_events{suffix}", after, last)
    records = tuple(
        Record(job=to_job(row), steps=tuple(steps.pop(row["job_id"], ()))) for row in found
    )
    return Page(now=now, records=records, strays=tuple(steps), last=last, full=full)


def _steps(tx: Connection, table: str, after: str, last: str) -> dict[str, list[Step]]:
    sql = f"""
        SELECT job_id, status, attempt, staged, time FROM {table} FORCE INDEX (history)
        WHERE job_id > %s AND job_id <= %s ORDER BY job_id, event_id
        """  # noqa: S608 - constants
    found = defaultdict(list)
    for row in tx.query(sql, after, last):
        found[row["job_id"]].append(
            Step(
                status=Status(row["status"]),
                attempt=row["attempt"],
                staged=bool(row["staged"]),
                time=row["time"],
            )
        )
    return found


def _now(tx: Connection) -> datetime:
    (row,) = tx.query(NOW)
    now: datetime = row["now"]
    return now

"""Submissions and jobs to test with."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from deliv.config import Limits, StagingLimits
from deliv.delivery.submit import uuid7
from deliv.model.file import ReportedFile
from deliv.model.job import Job, Submission
from deliv.model.states import Event
from deliv.model.transfer import OpenTransfer
from deliv.store import NOW, SliceLimits, Store, Turn
from support.private_mariadb import Server

ALICE = "/DC=org/DC=example/CN=alice"
BOB = "/DC=org/DC=example/CN=bob"
LABEL = "reprocessing-7"
HOST = "user.example.org"
REPORT = b"\x02" * 16
POPULAR = "popular"  # a product, and its staging
DAY = 86_400  # seconds
AT_ONCE = 200_000  # rows of one INSERT
CAPS = {
    "in_flight": 1000,
    "per_submitter": 1000,
    "per_destination": 1000,
    "per_submitter_and_destination": 1000,
}
LIMITS = Limits(**CAPS, staging=StagingLimits(**CAPS))


def submission(**changes: Any) -> Submission:
    values = {
        "job_id": uuid7(),
        "product_id": "1234567890",
        "destination_path": "gsiftp://user.example.org/data",
        "destination_host": HOST,
        "submitter": ALICE,
    }
    return Submission(**{**values, **changes})


async def submitted(store: Store, **changes: Any) -> Job:
    job, created = await store.submit(submission(**changes))
    assert created
    return job


async def admitted(store: Store, **changes: Any) -> Job:
    """A job in STAGING. No other may wait."""
    job = await submitted(store, **changes)
    admitted = await store.admit(LIMITS.staging)
    assert admitted is not None
    assert admitted.job_id == job.job_id
    return admitted


async def staged(store: Store, **changes: Any) -> Job:
    job = await admitted(store, **changes)
    return await store.apply(job, Event.STAGED, time_staged=NOW, stager_path="/copy/a file.fits")


async def holds(store: Store, limits: Limits, job: Job) -> str | None:
    """Which limit keeps a waiting job from going on."""
    return (await store.held_by(limits, [job])).get(job.job_id)


TURN = Turn(
    endpoint="fts1",
    files_per_pair=400,
    bytes_per_pair=2**40,
    files_per_transfer=200,
    takes_new=True,
)


async def with_files(store: Store, job: Job, count: int) -> Job:
    """The job, which is in STAGING, when a report of so many files counts."""
    listed = [ReportedFile(name=f"{number}", size=1) for number in range(1, count + 1)]
    await store.add_files(job, REPORT, 1, listed, None)
    totals = await store.file_totals(job, REPORT)
    return await store.apply(
        job,
        Event.STAGED,
        time_staged=NOW,
        stager_path="/copy/tree",
        report=REPORT,
        files_directory=f"{job.destination_path}/tree",
        **totals,
    )


async def assigned(store: Store, job: Job, files: int = 10) -> Job:
    """The job when (more of) its files are with a transfer."""
    number = job.slice if job.fts_jobid is None else job.slice + 1
    found = await store.assign(
        job,
        TURN,
        SliceLimits(number=number, files=files, bytes=100),
        lambda file: sha256(f"{job.job_id}/{file.name}".encode()).digest(),
        delay=60,
        fts_endpoint="fts1",
        fts_jobid=f"{job.job_id}.{number}",
        slice=number,
    )
    assert found is not None
    return found


async def open_transfers(store: Store, job: Job) -> tuple[OpenTransfer, ...]:
    return (await store.open_transfers([job]))[job.job_id]


async def transferring(store: Store, **changes: Any) -> Job:
    return await store.apply(await staged(store, **changes), Event.TRANSFER)


def fill(server: Server, submitter: str, count: int, host: str = HOST) -> None:
    """`count` waiting jobs, by MariaDB's own sequence tables, then fresh statistics.

    One was submitted each second, the last one now, and their ids say so.
    """
    milliseconds = f"CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS INT) - 1000 * ({count} - seq)"
    time = f"LPAD(LOWER(HEX({milliseconds})), 12, '0')"
    server.run(
        f"""
        INSERT INTO jobs
          (job_id, product_id, status, destination_path, destination_host, submitter, due_at)
        SELECT CONCAT(INSERT({time}, 9, 0, '-'), '-7000-8000-', LEFT(MD5('{submitter}'), 12)),
          seq, 'SUBMITTED', 'gsiftp://{host}/data', '{host}', '{submitter}',
          NOW(6) - INTERVAL {count} - seq SECOND
        FROM seq_1_to_{count}
        """,  # noqa: S608 - a test's own constants
        "ANALYZE TABLE jobs",
    )


def history(server: Server, count: int, archived: int, events: int = 3, files: int = 0) -> None:
    """`count` jobs that have ended, and others that are archived, with so many events each.

    They are of the latest 20 days, and of days 40 to 400. Three of four are ALICE's, half of all
    for the product of `submission`, two of three have the LABEL, which is not counted, and every
    fifth repeats a job that is forgotten. Those of the one half had a staging each, the others the
    one of POPULAR, which is still there. Fresh statistics follow.
    """
    server.rewrite(
        *_ended("jobs", count, first=20, last=1),
        *_ended("jobs_archive", archived, first=400, last=40),
        *(
            f"""
            INSERT INTO job_events{archive} (job_id, submitter, status, attempt, staged, time)
            SELECT job_id, submitter, ELT(seq, 'SUBMITTED', 'STAGING', status), 1, 0, time_submitted
            FROM jobs{archive} JOIN seq_1_to_3 ON seq <= {events}
            """  # noqa: S608 - a test's own constants
            for archive in ("", "_archive")
        ),
        f"UPDATE jobs SET staging_id = IF(product_id = '1234567890', '{POPULAR}', job_id)",  # noqa: S608
        """
        INSERT INTO stagings (staging_id, product_id, state, released)
        SELECT staging_id, product_id, 'RELEASED', time_released FROM jobs
        WHERE staging_id = job_id
        """,
        f"""
        INSERT INTO stagings (staging_id, product_id, open_key, state)
        VALUES ('{POPULAR}', '{POPULAR}', UNHEX(SHA2('{POPULAR}', 256)), 'STAGED')
        """,  # noqa: S608 - a test's own constants
        *(
            sql
            for archive in ("", "_archive")
            if files
            for sql in (
                f"UPDATE jobs{archive} SET report = REPEAT('r', 16)",  # noqa: S608 - as above
                f"""
                INSERT INTO job_files{archive} (job_id, report, number, name, name_key, state)
                SELECT job_id, report, seq, seq, UNHEX(MD5(seq)), ELT(seq % 3 + 1, 'WAITING',
                'FINISHED', 'FAILED')
                FROM jobs{archive} JOIN seq_1_to_{files}
                """,  # noqa: S608 - as above
            )
        ),
    )
    tables = ("jobs", "jobs_archive", "job_events", "job_events_archive", "job_files",
              "job_files_archive", "stagings")  # fmt: skip
    server.run(f"ANALYZE TABLE {', '.join(tables)}")


def _ended(table: str, count: int, *, first: int, last: int) -> Iterator[str]:
    """Statements that insert jobs which ended between so many days ago, some at a time."""
    step = (first - last) * DAY / max(count, 1)
    ends = ", ".join(f"IF(seq % 3 = {number}, time, NULL)" for number in range(3))
    for start in range(1, count + 1, AT_ONCE):
        yield f"""
        INSERT INTO {table}
          (job_id, product_id, status, destination_path, destination_host, submitter, version,
           time_submitted, time_staging, time_staged, time_transferring, time_success, time_error,
           time_cancelled, time_released, fts_endpoint, fts_jobid, fts_posted, stager_hostname,
           stager_path, detailed_status, label, retry_of, idempotency_key,
           idempotency_digest)
        SELECT
          CONCAT(LEFT(ms, 8), '-', RIGHT(ms, 4), '-7000-8000-', LPAD(LOWER(HEX(seq)), 12, '0')),
          IF(seq % 2, '1234567890', CONCAT('product-', seq)),
          ELT(1 + seq % 3, 'SUCCESS', 'ERROR', 'CANCELLED'), 'gsiftp://{HOST}/data', '{HOST}',
          IF(seq % 4, '{ALICE}', '{BOB}'), 9, time, time, time, time, {ends}, time, 'fts1', UUID(),
          time, 'archive.example.org', '/copy/a file.fits', 'this is how it went',
          IF(seq % 3, '{LABEL}', NULL), IF(seq % 5, NULL, CONCAT('forgotten-', seq)), seq,
          UNHEX(SHA2(CONCAT('{table}-', seq), 256))
        FROM (
          SELECT seq, time, LPAD(LOWER(HEX(ROUND(UNIX_TIMESTAMP(time) * 1000))), 12, '0') AS ms
          FROM (
            SELECT seq, NOW(6) - INTERVAL {first * DAY} - seq * {step} SECOND AS time
            FROM seq_{start}_to_{min(count, start + AT_ONCE - 1)}
          ) AS times
        ) AS made
        """  # noqa: S608 - a test's own constants

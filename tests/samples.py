"""Submissions and jobs to test with."""

from __future__ import annotations

from typing import Any

from private_mariadb import Server

from deliv.config import Limits
from deliv.delivery.submissions import uuid7
from deliv.model import Job, Submission
from deliv.states import Event
from deliv.store import NOW, Store

ALICE = "/DC=org/DC=example/CN=alice"
BOB = "/DC=org/DC=example/CN=bob"
HOST = "user.example.org"
LIMITS = Limits(in_flight=1000, per_submitter=1000, per_destination=1000)


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
    admitted = await store.admit(LIMITS)
    assert admitted is not None
    assert admitted.job_id == job.job_id
    return admitted


async def staged(store: Store, **changes: Any) -> Job:
    job = await admitted(store, **changes)
    return await store.apply(job, Event.STAGED, time_staged=NOW, stager_path="/copy/a file.fits")


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

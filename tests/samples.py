"""Submissions and jobs to test with."""

from __future__ import annotations

import uuid
from typing import Any

from private_mariadb import Server

from deliv.config import Limits
from deliv.model import Job, Submission
from deliv.states import Event
from deliv.store import NOW, Store

ALICE = "/DC=org/DC=example/CN=alice"
BOB = "/DC=org/DC=example/CN=bob"
HOST = "user.example.org"
LIMITS = Limits(in_flight=1000, per_submitter=1000, per_destination=1000)


def submission(**changes: Any) -> Submission:
    values = {
        "job_id": str(uuid.uuid4()),
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
    """`count` waiting jobs, by MariaDB's own sequence tables, then fresh statistics."""
    server.run(
        f"""
        INSERT INTO jobs
          (job_id, product_id, status, destination_path, destination_host, submitter, due_at)
        SELECT UUID(), seq, 'SUBMITTED', 'gsiftp://{host}/data', '{host}', '{submitter}',
          NOW(6) - INTERVAL {count} - seq SECOND
        FROM seq_1_to_{count}
        """,  # noqa: S608 - a test's own constants
        "ANALYZE TABLE jobs",
    )

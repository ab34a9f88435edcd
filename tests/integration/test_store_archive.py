"""Retention: what moves to the archive, what is found there, and what holds a late mover off."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.private_mariadb import Server
from support.samples import LIMITS, submission, submitted

from deliv.db.database import Connection, Database
from deliv.errors import KeyReused, LostRace
from deliv.model.job import Job
from deliv.model.states import FINAL, Event, Status
from deliv.store import NOW, Fence, Store, archive
from integration.test_store import explained

DAY = 86_400.0
ENDS = {Status.SUCCESS: Event.DELIVER, Status.ERROR: Event.FAIL, Status.CANCELLED: Event.CANCEL}


def old_id(days: float) -> str:
    """A job id as it was made so many days ago."""
    return archive.first_id(datetime.now(UTC) - timedelta(days=days)) + str(uuid.uuid4())[13:]


async def delivered(store: Store, **changes: Any) -> Job:
    """A job that has ended but still holds its staged copy."""
    await submitted(store, **changes)
    job = await store.admit(LIMITS.staging)
    assert job is not None
    job = await store.apply(job, Event.STAGED, time_staged=NOW, stager_path="/copy/a file.fits")
    return await store.apply(job, Event.TRANSFER)


async def ended(
    store: Store, server: Server, days: float, status: Status = Status.SUCCESS, **changes: Any
) -> Job:
    """A job that was submitted and ended so many days ago and needs nothing more."""
    job = await delivered(store, **{"job_id": old_id(days), **changes})
    server.run(
        f"SET timestamp = UNIX_TIMESTAMP(NOW() - INTERVAL {days * DAY} SECOND)",
        f"""
        UPDATE jobs SET status = '{status}', version = version + 1, due_at = NULL,
          time_released = NOW(6)
        WHERE job_id = '{job.job_id}'
        """,  # noqa: S608 - a test's own
    )
    found = await store.job(job.job_id)
    assert found is not None
    return found


async def held(store: Store) -> Fence:
    number = await store.lease("retention", "me", 60)
    assert number is not None
    return Fence(name="retention", owner="me", number=number)


def rows(server: Server, table: str) -> int:
    (row,) = server.run(f"SELECT COUNT(*) AS number FROM {table}")  # noqa: S608 - a test's own
    return int(row["number"])


@pytest.mark.parametrize("status", sorted(FINAL))
async def test_a_job_that_ended_long_ago_moves_with_its_events(
    store: Store, migrated: Server, status: Status
) -> None:
    job, events = await ended(store, migrated, 40, status), 5
    history = await store.events(job.job_id)
    assert await store.archive(await held(store), 30 * DAY, 100) == 1
    assert (rows(migrated, "jobs"), rows(migrated, "job_events")) == (0, 0)
    assert (rows(migrated, "jobs_archive"), rows(migrated, "job_events_archive")) == (1, events)
    assert await store.job(job.job_id) == job
    assert await store.events(job.job_id) == history
    assert (await store.counts())[status] == 0


async def test_what_is_young_unfinished_or_not_released_stays(
    store: Store, migrated: Server
) -> None:
    fence = await held(store)
    await ended(store, migrated, 20)
    job = await ended(store, migrated, 40)
    await store.update(job, delay=600, time_released=None)
    await delivered(store, job_id=old_id(40))
    await submitted(store, job_id=old_id(40))
    assert await store.archive(fence, 30 * DAY, 100) == 0
    assert rows(migrated, "jobs") == 4


async def test_a_job_that_took_long_is_as_old_as_its_end(store: Store, migrated: Server) -> None:
    await ended(store, migrated, 20, job_id=old_id(90))
    assert await store.archive(await held(store), 30 * DAY, 100) == 0
    assert await store.archive(await held(store), 10 * DAY, 100) == 1


async def test_it_goes_in_small_batches_the_oldest_first(store: Store, migrated: Server) -> None:
    fence = await held(store)
    jobs = [await ended(store, migrated, days) for days in (33, 34, 35)]
    assert [await store.archive(fence, 30 * DAY, 2) for _ in range(3)] == [2, 1, 0]
    assert {job.job_id for job in jobs} == {
        row["job_id"] for row in migrated.run("SELECT job_id FROM jobs_archive")
    }


async def test_movers_at_once_move_each_job_once(store: Store, migrated: Server) -> None:
    for days in range(31, 43):
        await ended(store, migrated, days)
    fence = await held(store)
    other = Database(migrated.settings())
    stores = [store, Store(other)]
    moved = await asyncio.gather(*(stores[n % 2].archive(fence, 30 * DAY, 3) for n in range(8)))
    moved.append(await store.archive(fence, 30 * DAY, 100))
    assert sum(moved) == rows(migrated, "jobs_archive") == 12
    other.close()


async def test_whose_lease_is_gone_moves_nothing(store: Store, migrated: Server) -> None:
    """As an instance that was frozen between two batches and has woken up."""
    await ended(store, migrated, 40)
    await submitted(store)
    late = await held(store)
    migrated.run("UPDATE leases SET expires = NOW(6) - INTERVAL 1 SECOND WHERE name = 'retention'")
    for act in (store.archive, store.forget, store.outbox_trim):
        with pytest.raises(LostRace, match="retention"):
            await act(late, 0, 100)
    assert await store.lease("retention", "me", 60) == late.number + 1
    with pytest.raises(LostRace):
        await store.archive(late, 0, 100)
    assert rows(migrated, "jobs") == 2


async def test_a_change_under_a_lost_lease_is_refused(store: Store, migrated: Server) -> None:
    job, late = await submitted(store), await held(store)
    job = await store.update(job, fence=late, fts_misses=1)
    migrated.run("UPDATE leases SET owner = 'other', fence = fence + 1 WHERE name = 'retention'")
    with pytest.raises(LostRace):
        await store.update(job, fence=late, fts_misses=2)
    assert await store.job(job.job_id) == job


async def test_a_key_is_good_for_an_archived_job_too(store: Store, migrated: Server) -> None:
    job = await ended(store, migrated, 40, idempotency_key="k")
    await store.archive(await held(store), 30 * DAY, 100)
    before = rows(migrated, "outbox")
    assert await store.submit(submission(idempotency_key="k")) == (job, False)
    with pytest.raises(KeyReused):
        await store.submit(submission(idempotency_key="k", product_id="other"))
    assert (rows(migrated, "jobs"), rows(migrated, "job_events")) == (0, 0)
    assert rows(migrated, "outbox") == before


@pytest.mark.parametrize("archived", [True, False])
async def test_a_key_whose_time_is_over_serves_again(
    store: Store, migrated: Server, archived: bool
) -> None:
    first = await ended(store, migrated, 40, idempotency_key="k")
    if archived:
        await store.archive(await held(store), 30 * DAY, 100)
    assert await store.submit(submission(idempotency_key="k"), key_life=DAY) == (first, False)
    second, created = await store.submit(
        submission(idempotency_key="k", product_id="other"), key_life=0
    )
    assert created
    again = submission(idempotency_key="k", product_id="other")
    assert await store.submit(again, key_life=DAY) == (second, False)
    assert await store.submit(again, key_life=0) == (second, False)  # it is unfinished
    found = await store.job(first.job_id)
    assert found is not None
    assert found.idempotency_key == "k"


async def test_a_key_repeated_while_its_job_is_archived_is_one_job(
    store: Store, migrated: Server
) -> None:
    fence = await held(store)
    for number in range(10):
        job = await ended(store, migrated, 40, idempotency_key=str(number))
        request = submission(idempotency_key=str(number))
        before, moved, after = await asyncio.gather(
            store.submit(request), store.archive(fence, 30 * DAY, 10), store.submit(request)
        )
        assert (before, after) == ((job, False), (job, False))
        assert moved + await store.archive(fence, 30 * DAY, 10) == 1  # 0 where it was looked at


async def test_archived_jobs_are_forgotten_in_the_end(store: Store, migrated: Server) -> None:
    fence = await held(store)
    kept = await ended(store, migrated, 40)
    for days in (400, 401, 402):
        await ended(store, migrated, days)
    await store.archive(fence, 30 * DAY, 100)
    assert [await store.forget(fence, 365 * DAY, 2) for _ in range(3)] == [2, 1, 0]
    assert migrated.run("SELECT job_id FROM jobs_archive") == [{"job_id": kept.job_id}]
    assert rows(migrated, "job_events_archive") == 5


async def test_the_outbox_keeps_what_is_young(store: Store, migrated: Server) -> None:
    fence = await held(store)
    await submitted(store)
    migrated.run("UPDATE outbox SET created = created - INTERVAL 2 DAY")
    young = await submitted(store)
    assert await store.outbox_trim(fence, DAY, 1) == 1
    assert await store.outbox_trim(fence, DAY, 100) == 1
    assert {row.job_id for row in await store.outbox_take(10, 0)} == {young.job_id}


async def test_only_old_jobs_are_looked_at(database: Database, migrated: Server) -> None:
    """Among many that ended lately the index leads to those that may be old enough."""
    recent = archive.first_id(datetime.now(UTC) - timedelta(days=1))
    migrated.run(
        f"""
        INSERT INTO jobs
          (job_id, product_id, status, destination_path, destination_host, submitter)
        SELECT CONCAT('{recent}-7000-8000-', LPAD(HEX(seq), 12, '0')), seq, 'SUBMITTED',
          'gsiftp://h/', 'h', '/CN=a'
        FROM seq_1_to_20000
        """,  # noqa: S608 - a test's own constants
        "UPDATE jobs SET status = 'CANCELLED'",
        "ANALYZE TABLE jobs",
    )
    then = datetime.now(UTC) - timedelta(days=30)
    parameters = (Status.CANCELLED, archive.first_id(then), then, 100)
    assert set(await explained(database, lambda tx: tx.query(archive.ENDED, *parameters))) == {
        "due"
    }
    assert await database.transaction(lambda tx: rows_read(tx, archive.ENDED, *parameters)) < 10


def rows_read(tx: Connection, sql: str, *parameters: object) -> int:
    """How often the server went from one row to another for this query."""

    def steps() -> int:
        return sum(int(row["Value"]) for row in tx.query("SHOW STATUS LIKE 'Handler_read_%'"))

    before = steps()
    tx.query(sql, *parameters)
    return steps() - before

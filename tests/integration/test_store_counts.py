"""The counts that triggers keep: right at every moment, and no submitter waits for another's."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from support.private_mariadb import Server
from support.samples import (
    ALICE,
    BOB,
    LIMITS,
    admitted,
    fill,
    staged,
    submission,
    submitted,
    transferring,
)

from deliv.db.clock import DatabaseClock
from deliv.db.database import Connection, Database
from deliv.delivery.submit import uuid7
from deliv.errors import QuotaExceeded
from deliv.model.states import FINAL, Event, Status
from deliv.store import NOW, Store, migrations, submissions
from deliv.store.inspection import Inspection
from deliv.store.migrations import SQL
from integration.test_store_archive import DAY, ended, held

CAROL = "/DC=org/DC=example/CN=carol"
COUNTS = "0005_counts"


def counted(server: Server) -> dict[str, dict[str, int]]:
    """What is counted for each submitter who has jobs."""
    rows = server.run("SELECT * FROM submitter_jobs")
    found = {
        row.pop("submitter"): {name.upper(): number for name, number in row.items() if number}
        for row in rows
    }
    return {submitter: counts for submitter, counts in found.items() if counts}


def there(server: Server) -> dict[str, dict[str, int]]:
    """The same, counted in the table of jobs."""
    found: dict[str, Counter[str]] = {}
    for row in server.run("SELECT submitter, status FROM jobs"):
        found.setdefault(row["submitter"], Counter())[row["status"]] += 1
    return {submitter: dict(counts) for submitter, counts in found.items()}


async def test_each_step_of_a_job_is_counted(store: Store, migrated: Server) -> None:
    for submitter in (ALICE, BOB):
        job = await transferring(store, submitter=submitter)
        assert counted(migrated) == there(migrated)
        job = await store.apply(job, Event.RESTAGE, attempt=2)
        job = await store.apply(job, Event.RESTAGE, attempt=3)
        assert counted(migrated) == there(migrated)
        await store.apply(job, Event.FAIL)
        await submitted(store, submitter=submitter)
        assert counted(migrated) == there(migrated)
        await store.admit(LIMITS.staging)
    assert counted(migrated) == {name: {"ERROR": 1, "STAGING": 1} for name in (ALICE, BOB)}
    counts = await store.counts()
    assert (counts[Status.ERROR], counts[Status.STAGING], sum(counts.values())) == (2, 2, 4)


UNDER_WAY = ("staging", "asked", "at_fts", "held", "sized", "bytes")


def under_way(server: Server) -> dict[str, int]:
    """Of all submitters and hosts."""
    rows = server.run("SELECT * FROM jobs_under_way")
    assert len(rows) == len({(row["submitter"], row["destination_host"]) for row in rows})
    return {name: sum(int(row[name]) for row in rows) for name in UNDER_WAY}


async def test_what_is_under_way_is_counted(store: Store, migrated: Server) -> None:
    """At each step of a job; and when all is over nothing is left."""

    async def check(*expected: int) -> None:
        assert under_way(migrated) == dict(zip(UNDER_WAY, expected, strict=True))
        assert await Inspection(store._database).miscounted(10) == []

    job = await admitted(store)
    await check(1, 1, 0, 1, 0, 0)
    job = await store.apply(job, Event.STAGED, time_staged=NOW, product_size=5)
    await check(1, 0, 0, 1, 1, 5)
    await store.join_fts_queue(job, 60)
    given = await store.give_fts_place(LIMITS)
    assert given is not None
    await check(1, 0, 1, 1, 1, 5)
    job = await store.apply(given, Event.TRANSFER, fts_endpoint="fts1", turn_since=None)
    await check(0, 0, 1, 1, 1, 5)
    job = await store.apply(job, Event.RETRANSFER, attempt=2, fts_endpoint=None)
    await check(0, 0, 0, 1, 1, 5)
    job = await store.apply(job, Event.RESTAGE, attempt=3)
    await check(1, 1, 0, 1, 1, 5)
    job = await store.apply(job, Event.STAGED, time_staged=NOW, product_size=7)
    job = await store.apply(job, Event.TRANSFER, fts_endpoint="fts1")
    await check(0, 0, 1, 1, 1, 7)
    job = await store.apply(job, Event.DELIVER)
    await check(0, 0, 0, 1, 1, 7)
    await store.update(job, delay=None, time_released=NOW)
    await check(0, 0, 0, 0, 0, 0)
    assert migrated.run("SELECT * FROM jobs_under_way") == []


async def test_wrong_counts_of_what_is_under_way_are_found_and_repaired(
    store: Store, migrated: Server
) -> None:
    inspection = Inspection(store._database)
    await admitted(store)
    await staged(store, submitter=BOB)
    right = migrated.run("SELECT * FROM jobs_under_way ORDER BY submitter")
    migrated.run("UPDATE jobs_under_way SET held = held + 3, bytes = -1")
    assert await inspection.miscounted(10) == [ALICE, BOB]
    migrated.run("DELETE FROM jobs_under_way")
    assert await inspection.miscounted(10) == [ALICE, BOB]
    for submitter in (ALICE, BOB):
        await store.recount(submitter)
    assert await inspection.miscounted(10) == []
    assert migrated.run("SELECT * FROM jobs_under_way ORDER BY submitter") == right


async def test_what_was_under_way_before_the_counts_is_counted(
    store: Store, migrated: Server
) -> None:
    """By the migration, whatever is there of an earlier run of it."""
    await admitted(store)
    await staged(store, submitter=BOB)
    job = await transferring(store)
    job = await store.update(job, fts_endpoint="fts1", product_size=5)
    ended = await store.apply(await transferring(store, submitter=BOB), Event.DELIVER)
    assert ended.time_released is None
    right = migrated.run("SELECT * FROM jobs_under_way ORDER BY submitter")
    migrated.run("UPDATE jobs_under_way SET held = -1, submitter = CONCAT(submitter, 'x')")
    (migration,) = [one for one in migrations.load() if str(one).endswith("_under_way")]
    migrated.run(*migration.statements)
    assert migrated.run("SELECT * FROM jobs_under_way ORDER BY submitter") == right
    assert await Inspection(store._database).miscounted(10) == []


async def test_archived_and_forgotten_jobs_are_not_counted(store: Store, migrated: Server) -> None:
    fence = await held(store)
    for status in FINAL:
        await ended(store, migrated, 40, status)
    kept = await submitted(store)
    assert await store.archive(fence, 30 * DAY, 100) == len(FINAL)
    assert counted(migrated) == there(migrated) == {kept.submitter: {"SUBMITTED": 1}}
    assert await store.forget(fence, 30 * DAY, 100) == len(FINAL)
    assert counted(migrated) == there(migrated)


async def test_a_refused_submission_is_not_counted(store: Store, migrated: Server) -> None:
    await submitted(store, quota=1)
    with pytest.raises(QuotaExceeded):
        await store.submit(submission(quota=1))
    assert counted(migrated) == {ALICE: {"SUBMITTED": 1}}


async def test_a_submission_under_a_quota_waits_for_no_other_submitter(
    store: Store, migrated: Server
) -> None:
    """Another's has not committed yet."""
    with migrated.admin() as other, other.cursor() as cursor:
        cursor.execute(f"USE {migrated.database.name}")
        cursor.execute("BEGIN")
        submissions.submit(
            Connection(other, DatabaseClock(0)), [submission(submitter=ALICE, quota=1)], key_life=0
        )
        await submitted(store, submitter=BOB, quota=1)
        assert counted(migrated) == {BOB: {"SUBMITTED": 1}}
        cursor.execute("COMMIT")
    assert counted(migrated) == {name: {"SUBMITTED": 1} for name in (ALICE, BOB)}


async def test_movers_and_single_changes_at_once_keep_the_counts(
    store: Store, migrated: Server
) -> None:
    """Jobs of several submitters are archived in batches while others of theirs change."""
    submitters = [ALICE, BOB, CAROL]
    for number in range(12):
        await ended(store, migrated, 31 + number, submitter=submitters[number % 3])
    fence, other = await held(store), Database(migrated.settings())
    try:
        stores = [store, Store(other)]
        moves = [stores[n % 2].archive(fence, 30 * DAY, 4) for n in range(6)]
        requests = [
            stores[n % 2].submit(submission(submitter=submitters[n % 3], quota=100))
            for n in range(24)
        ]
        admissions = [stores[n % 2].admit(LIMITS.staging) for n in range(24)]
        await asyncio.gather(*moves, *requests, *admissions)
        while await store.archive(fence, 30 * DAY, 100):
            pass
    finally:
        other.close()
    assert counted(migrated) == there(migrated)
    assert sum(sum(counts.values()) for counts in counted(migrated).values()) == 24


@pytest.fixture
def before(server: Server, tmp_path: Path) -> Server:
    """A database of the release before the counts."""
    for migration in migrations.load():
        if str(migration) < COUNTS:
            name = f"{migration}.sql"
            (tmp_path / name).write_bytes(SQL.joinpath(name).read_bytes())
    asyncio.run(migrations.migrate(server.settings(), tmp_path))
    return server


def test_jobs_of_the_release_before_are_counted(before: Server) -> None:
    fill(before, ALICE, 30)
    fill(before, BOB, 20)
    before.run(
        "UPDATE jobs SET status = 'STAGING' LIMIT 10",
        "UPDATE jobs SET status = 'ERROR' WHERE status = 'STAGING' LIMIT 5",
    )
    asyncio.run(migrations.migrate(before.settings()))
    assert counted(before) == there(before)
    counts = next(m for m in migrations.load() if str(m) == COUNTS)
    before.run(*counts.statements)
    assert counted(before) == there(before)


# What the release before this schema writes.
SUBMIT = """
INSERT INTO jobs (job_id, product_id, status, destination_path, destination_host, submitter)
VALUES (%s, 'p', 'SUBMITTED', 'gsiftp://h/d', 'h', %s)
"""
CANCEL = "UPDATE jobs SET status = 'CANCELLED', version = version + 1 WHERE job_id = %s"


async def test_what_changes_while_the_migration_runs_is_counted(before: Server) -> None:
    fill(before, ALICE, 2_000)
    migrated = asyncio.Event()

    async def work(database: Database, number: int) -> None:
        submitter = (ALICE, BOB, f"{CAROL}{number}")[number % 3]
        while True:
            ended, waiting = uuid7(), uuid7()
            await database.execute(SUBMIT, ended, submitter)
            await database.execute(CANCEL, ended)
            await database.execute(SUBMIT, waiting, submitter)
            if migrated.is_set():
                return

    database = Database(before.settings())
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(work(database, number))
            await migrations.migrate(before.settings())
            migrated.set()
    finally:
        database.close()
    assert counted(before) == there(before)

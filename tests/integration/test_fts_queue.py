"""Which staged job is handed to FTS next: the caps on what is there, and the order in the line."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace
from support.private_mariadb import Server
from support.samples import ALICE, BOB, HOST, LIMITS, TURN, fill, holds, staged, submitted

from deliv.config import Limits
from deliv.db.database import Database
from deliv.model.job import Job
from deliv.model.phase import has_place
from deliv.model.states import Event
from deliv.store import NOW, Store, fts_queue, turns
from integration.rows_read import rows_read

CAROL = "/DC=org/DC=example/CN=carol"
LOOK = 3600.0  # seconds


def limits(**changes: Any) -> Limits:
    return replace(LIMITS, **changes)


async def waiting(store: Store, **changes: Any) -> Job:
    """A job that is staged and waits in the line."""
    return await store.join_fts_queue(await staged(store, **changes), LOOK)


async def places(store: Store, caps: Limits = LIMITS) -> list[Job]:
    """Those who get one, in their order."""
    jobs = []
    while job := await store.give_fts_place(caps):
        jobs.append(job)
    return jobs


async def test_who_waits_is_left_alone_until_there_is_a_place(store: Store) -> None:
    job = await waiting(store)
    assert not has_place(job)
    assert await store.due(10) == []
    (given,) = await places(store)
    assert (given.job_id, has_place(given)) == (job.job_id, True)
    assert await store.due(10) == [job.job_id]
    assert await store.give_fts_place(LIMITS) is None


async def test_the_fewest_places_then_who_has_waited_longest(store: Store) -> None:
    for submitter in (ALICE, ALICE, ALICE, BOB, BOB, CAROL):
        await waiting(store, submitter=submitter)
    order = [job.submitter for job in await places(store)]
    assert order == [ALICE, BOB, CAROL, ALICE, BOB, ALICE]


async def test_of_one_submitter_in_the_order_of_the_line(store: Store) -> None:
    jobs = [await waiting(store, destination_host=host) for host in "bcaba"]
    again = await store.join_fts_queue(jobs[0], LOOK)  # looked at, it keeps its place in the line
    assert again.job_id == jobs[0].job_id
    assert [job.job_id for job in await places(store)] == [job.job_id for job in jobs]


@pytest.mark.parametrize(
    ("full", "said"),
    [
        ({"per_submitter": 2}, "a user may have 2 deliveries with FTS at once"),
        ({"per_destination": 2}, f"2 deliveries to {HOST} may be with FTS at once"),
        (
            {"per_submitter_and_destination": 2},
            f"a user may have 2 deliveries to {HOST} with FTS at once",
        ),
        ({"in_flight": 2}, "2 deliveries of all users may be with FTS at once"),
    ],
)
async def test_a_job_that_a_limit_holds_says_which(
    store: Store, full: dict[str, int], said: str
) -> None:
    jobs = [await waiting(store) for _ in range(3)]
    caps = limits(**full)
    assert await holds(store, caps, jobs[2]) is None
    first, _ = await places(store, caps)
    assert await holds(store, caps, jobs[2]) == said
    await store.apply(first, Event.CANCEL)
    assert await holds(store, caps, jobs[2]) is None
    assert [job.job_id for job in await places(store, caps)] == [jobs[2].job_id]


async def test_what_waits_for_the_archive_takes_no_place(store: Store) -> None:
    await submitted(store)
    await store.admit(LIMITS.staging)
    job = await waiting(store, submitter=BOB)
    assert [one.job_id for one in await places(store, limits(in_flight=1))] == [job.job_id]


async def test_full_submitters_and_hosts_hold_nobody_else_up(store: Store) -> None:
    for submitter, host in ((ALICE, "a"), (ALICE, "a"), (BOB, "a"), (ALICE, "b"), (CAROL, "b")):
        await waiting(store, submitter=submitter, destination_host=host)
    given = await places(store, limits(per_submitter_and_destination=1, per_destination=1))
    found = [(job.submitter, job.destination_host) for job in given]
    assert found == [(ALICE, "a"), (CAROL, "b")]


async def test_a_place_is_kept_until_the_attempt_ends(store: Store) -> None:
    caps = limits(in_flight=1)
    first, second = await waiting(store), await waiting(store)
    (job,) = await places(store, caps)
    job = await store.apply(job, Event.TRANSFER, fts_endpoint="fts1", turn_since=None)
    assert await places(store, caps) == []
    said = "1 delivery of all users may be with FTS at once"
    assert await holds(store, caps, second) == said
    await store.apply(job, Event.RETRANSFER, delay=60, fts_endpoint=None, attempt=2)
    assert job.job_id == first.job_id
    assert [one.job_id for one in await places(store, caps)] == [second.job_id]


@pytest.mark.parametrize("end", [Event.CANCEL, Event.FAIL, Event.RESTAGE])
async def test_who_needs_no_place_any_more_leaves_the_line(store: Store, end: Event) -> None:
    job = await waiting(store)
    changes = {"attempt": 2} if end is Event.RESTAGE else {}
    await store.apply(job, end, **changes)
    assert (await store.fts_places()).waiting == 0
    assert await places(store) == []


async def test_a_job_that_another_transaction_has_is_passed_over(
    store: Store, migrated: Server
) -> None:
    locked, free = await waiting(store), await waiting(store)
    with migrated.admin() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        sql = "SELECT * FROM deliv.jobs WHERE job_id = %s FOR UPDATE"
        cursor.execute(sql, (locked.job_id,))
        async with asyncio.timeout(60):
            job = await store.give_fts_place(LIMITS)
    assert job is not None
    assert job.job_id == free.job_id


async def test_many_at_once_never_pass_a_cap(store: Store) -> None:
    for submitter in (ALICE, BOB, CAROL):
        for host in "abcabcabc":
            await waiting(store, submitter=submitter, destination_host=host)
    caps = limits(in_flight=14, per_submitter=6, per_destination=5)
    answers = await asyncio.gather(*(store.give_fts_place(caps) for _ in range(40)))
    jobs = [job for job in answers if job is not None]
    assert len({job.job_id for job in jobs}) == len(jobs) == 14
    assert max(Counter(job.submitter for job in jobs).values()) <= 6
    assert max(Counter(job.destination_host for job in jobs).values()) == 5


async def test_what_the_release_before_hands_over_takes_a_place(store: Store) -> None:
    """It knows no line: it hands a job over when it is due."""
    job = await waiting(store)
    await store.apply(job, Event.TRANSFER, fts_endpoint="fts1", fts_jobid="x", fts_posted=NOW)
    found = await store.fts_places()
    assert (found.given, found.waiting) == (1, 0)


async def test_the_choice_reads_the_line_by_its_heads(
    store: Store, database: Database, migrated: Server
) -> None:
    await waiting(store)
    migrated.run(
        """
        INSERT INTO fts_queue (job_id, submitter, destination_host)
        SELECT CONCAT('x', seq), ELT(1 + seq % 2, 'a', 'b'), 'host' FROM seq_1_to_2000
        """,
        "ANALYZE TABLE fts_queue",
    )
    assert await rows_read(database, lambda tx: [fts_queue.give_place(tx, LIMITS)]) < 150


async def test_turns_are_given_without_reading_what_has_no_place(
    database: Database, migrated: Server
) -> None:
    """Of thousands that are being staged, or are staged."""
    fill(migrated, ALICE, 2_000)
    migrated.run(
        "UPDATE jobs SET status = 'STAGING'",
        "UPDATE jobs SET time_staged = NOW(6), stager_hostname = 'archive' LIMIT 1000",
        "ANALYZE TABLE jobs",
    )
    assert await rows_read(database, lambda tx: [turns.give(tx, TURN)]) < 30

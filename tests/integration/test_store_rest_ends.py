"""How rests end, who is given up, and what all the looks cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.private_mariadb import Server
from support.samples import (
    ALICE,
    BOB,
    HOST,
    LIMITS,
    fill,
    staged,
    submitted,
)

from deliv.db.database import Database
from deliv.delivery.ending.failure import FailureHandler
from deliv.model.backoff import Backoff
from deliv.model.job import Job, TransferIdentity
from deliv.model.rest import (
    Cause,
    operators_place,
)
from deliv.model.states import FINAL, Event, Status
from deliv.store import Store
from integration.resting_jobs import (
    AHEAD,
    FULL,
    RULES,
    at_fts,
    due_again,
    fails,
    out,
    place,
    resting,
)
from integration.test_stager_gateway import SETTINGS

pytestmark = pytest.mark.usefixtures("counted")


LONG_AGO = "UPDATE rests SET failed = failed - INTERVAL 1 DAY"


async def test_a_rest_ends_by_itself_where_nobody_waits_any_more(
    store: Store, database: Database
) -> None:
    """The only one was delivered, or cancelled, or wants another delegation no more."""
    delegates = await at_fts(store, submitter=BOB, copied_as=TransferIdentity.USER)
    await store.apply(await fails(store, delegates, Cause.DELEGATION), Event.CANCEL)
    waits = await at_fts(store, destination_path=FULL)
    for _ in range(RULES.after):
        waits = await fails(store, waits, Cause.SPACE)
    await store.apply(await out(store, database), Event.CANCEL)
    await store.begin_rest(operators_place("other.example.org"), "a new disk", None, "root")
    await store.free_rested(RULES, 100)
    assert Cause.DELEGATION not in {rest.cause for rest in await resting(store)}
    assert len(await resting(store)) == 3
    await database.execute(LONG_AGO)
    await store.free_rested(RULES, 100)
    assert {rest.cause for rest in await resting(store)} == {Cause.SPACE, Cause.OPERATORS}
    await database.execute(AHEAD)
    await store.try_rests(RULES, 10)
    await store.apply(await store.claim(waits.job_id, 60) or waits, Event.DELIVER)
    await store.free_rested(RULES, 100)
    assert [rest.cause for rest in await resting(store)] == [Cause.OPERATORS]
    assert len(await database.query("SELECT 1 FROM rests")) == 1


async def test_a_rest_ends_when_all_who_waited_have_arrived(
    store: Store, database: Database
) -> None:
    """Though they are fewer than those behind which all others go on."""
    second = await staged(store)
    first = await out(store, database)
    await store.rest(second, (await resting(store))[0], RULES.keep_staged)
    await due_again(database, store)
    while going := [job for job in await found(store, first, second) if job.let_go]:
        assert len(await resting(store)) == 1
        await store.apply(going[0], Event.DELIVER)
        await store.free_rested(RULES, 100)
    assert await resting(store) == []


async def found(store: Store, *jobs: Job) -> list[Job]:
    """Those that have not ended; with FTS."""
    now = [job for one in jobs if (job := await store.job(one.job_id)) and job.status not in FINAL]
    return [job if job.status is Status.TRANSFERRING else await at_fts(store, job) for job in now]


async def test_those_let_go_do_not_wait_behind_places_whose_failures_are_counted(
    store: Store, database: Database
) -> None:
    job = await out(store, database)
    await database.execute(
        """
        INSERT INTO rests (place_key, cause, place, reason, failures, failed)
        SELECT UNHEX(LPAD(HEX(seq), 32, '0')), 'space', seq, 'full', 1, NOW(6) FROM seq_1_to_500
        """
    )
    assert await store.end_rest(place(job).key)
    assert await store.free_rested(RULES, 500) == 1
    assert await store.claim(job.job_id, 60) is not None


OLD = "UPDATE jobs SET due_at = due_at - INTERVAL 8 DAY WHERE status = 'SUBMITTED'"


async def test_an_operators_rest_may_have_no_end(store: Store) -> None:
    job = await submitted(store)
    await store.begin_rest(operators_place(HOST), "a new disk", None, "root")
    assert await store.try_rests(RULES, 10) == 0
    rest = await store.rest_of(job)
    assert rest is not None
    assert rest.sentence() == "the operators have user.example.org rest: a new disk"
    assert await store.end_rest(rest.place_key)
    assert await store.admit(LIMITS.staging) is not None


async def test_who_has_waited_too_long_is_found(store: Store, migrated: Server) -> None:
    """Of those that are marked, and of those that wait for their turn at an operator's host."""
    waiting = [await submitted(store), await submitted(store, submitter=BOB)]
    assert await store.tired(RULES, 10) == {}
    await store.begin_rest(operators_place(HOST), "a disk", None, "root")
    migrated.run("UPDATE rests SET since = since - INTERVAL 8 DAY")
    assert await store.tired(RULES, 10) == {}  # they were submitted just now
    migrated.run(OLD)
    await submitted(store)
    assert [*await store.tired(RULES, 10)] == [one.job_id for one in waiting]
    assert [*await store.tired(RULES, 1)] == [waiting[0].job_id]


async def test_who_has_waited_too_long_is_found_behind_places_of_more_patience(
    store: Store, migrated: Server
) -> None:
    job = await fails(store, await at_fts(store))
    migrated.run(
        """
        INSERT INTO rests (place_key, cause, place, reason, since)
        SELECT UNHEX(MD5(seq)), 'space', seq, 'full', NOW(6) - INTERVAL 2 DAY FROM seq_1_to_100
        """,
        "UPDATE rests SET since = since - INTERVAL 2 HOUR",
    )
    assert await store.tired(RULES, 100) == {}
    assert [*await store.tired(replace(RULES, patience_new=0.0), 100)] == [job.job_id]


async def test_who_has_waited_too_long_at_a_server_is_found(
    store: Store, database: Database
) -> None:
    job = await out(store, database)
    await submitted(store)
    assert await store.admit(LIMITS.staging) is None
    assert await store.tired(RULES, 10) == {}
    assert len(await store.tired(replace(RULES, patience=0.0), 10)) == 2
    assert (await store.job(job.job_id)) is not None


async def test_a_job_is_given_up_when_its_place_has_rested_too_long(
    store: Store, database: Database
) -> None:
    job = await out(store, database)
    rules = replace(RULES, patience=0.0)
    ended = await store.fail_at(
        job, Event.RETRANSFER, place(job), "refused", "refused", rules, attempt=job.attempt + 1
    )
    assert ended is None


async def test_who_is_given_up_where_operators_have_its_host_rest_is_not_to_blame(
    store: Store,
) -> None:
    job = await staged(store)
    await store.begin_rest(operators_place(HOST), "a new disk", None, "root")
    (rest,) = await resting(store)
    ended = await FailureHandler(store, SETTINGS).give_up(job, rest)
    assert ended.status is Status.ERROR
    assert (ended.detailed_status or "").endswith(
        "the operators have user.example.org rest: a new disk. Nothing is wrong with the job: "
        "submit it again when that works."
    )


READ = """
SHOW SESSION STATUS
WHERE Variable_name LIKE 'Handler\\_read\\_%' OR Variable_name = 'Handler_icp_attempts'
"""


async def rows_read(database: Database) -> int:
    return sum(int(row["Value"]) for row in await database.query(READ))


async def many_rest(store: Store, database: Database, server: Server, count: int) -> None:
    """So many jobs of the queue, and one in flight, at one place."""
    job = await out(store, database)
    fill(server, ALICE, count)
    later = "due_at = NOW(6) + INTERVAL 1 DAY, waiting_for = 'destination'"
    await database.execute(
        f"UPDATE jobs SET rest = %s, {later} WHERE status = 'SUBMITTED'",  # noqa: S608
        job.rest,
    )


@pytest.mark.parametrize("count", [200, 5000])
async def test_jobs_that_rest_cost_no_look_more(migrated: Server, count: int) -> None:
    """Neither the looks for who is next nor those at what rests read them."""
    database = Database(migrated.settings(pool=1))  # one connection, which counts for all
    try:
        store = Store(database)
        await many_rest(store, database, migrated, count)
        migrated.run("ANALYZE TABLE jobs")
        before = await rows_read(database)
        assert await store.admit(LIMITS.staging, RULES) is None
        assert await store.try_rests(RULES, 100) == 0
        assert await store.free_rested(RULES, 100) == 0
        assert await store.tired(RULES, 100) == {}
        await store.resting()
        assert await rows_read(database) - before < 150
    finally:
        database.close()


@pytest.mark.parametrize("count", [200, 5000])
async def test_jobs_that_rest_for_less_long_than_their_place_cost_no_look_more(
    migrated: Server, count: int
) -> None:
    database = Database(migrated.settings(pool=1))  # one connection, which counts for all
    try:
        store = Store(database)
        await many_rest(store, database, migrated, count)
        await database.execute("UPDATE rests SET since = since - INTERVAL 8 DAY")
        migrated.run("ANALYZE TABLE jobs")
        before = await rows_read(database)
        assert await store.tired(RULES, 100) == {}
        assert await rows_read(database) - before < 500
    finally:
        database.close()


def test_pauses_grow_from_a_minute_to_half_an_hour() -> None:
    assert [RULES.pauses.pause(n) for n in range(7)] == [60, 120, 240, 480, 960, 1800, 1800]
    assert Backoff(60, 1800) == RULES.pauses

"""MariaDB's clock steps back by ten minutes, or ahead by a day, under the store."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deliv_testbed.clocks import Clock
from deliv_testbed.errors import TestbedError
from support.private_mariadb import Server, running
from support.samples import BOB, HOST, LIMITS, admitted, submitted

from deliv.commands.check.history import problems
from deliv.db.database import Database
from deliv.model.job import Job
from deliv.model.rest import operators_place
from deliv.model.staging import StagingState
from deliv.model.states import Event
from deliv.store import NOW, Delegations, Store
from deliv.store.inspection import Inspection
from integration.resting_jobs import RULES, out
from integration.test_store_archive import held

MINUTES, DAY = 600, 86_400  # seconds
HOLD = 60.0
TTL = 1.0


@pytest.fixture(scope="module")
def clocked() -> Iterator[tuple[Server, Clock]]:
    with tempfile.TemporaryDirectory(prefix="deliv-test-clock-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        clock = Clock(file=directory / "clock", cached=False)
        clock.step(0)
        try:
            with running(clock=clock) as server:
                yield server, clock
        except TestbedError as error:
            if os.environ.get("DELIV_TESTS_REQUIRE"):
                raise
            pytest.skip(str(error))


@pytest.fixture
def server(clocked: tuple[Server, Clock]) -> Iterator[Server]:
    server, clock = clocked
    clock.step(0)
    server.start()
    server.empty()
    yield server
    clock.step(0)


@pytest.fixture
def clock(clocked: tuple[Server, Clock]) -> Clock:
    return clocked[1]


@pytest.fixture
def other(migrated: Server) -> Iterator[Store]:
    """Another instance's."""
    database = Database(migrated.settings())
    yield Store(database)
    database.close()


async def until(look: Callable[[], Awaitable[object]]) -> object:
    async with asyncio.timeout(60):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    return found


def left(server: Server, moment: datetime) -> float:
    """Seconds until then, as the server has it."""
    (row,) = server.run("SELECT NOW(6) AS now")
    return float((moment - row["now"].replace(tzinfo=UTC)).total_seconds())


async def started(*stores: Store) -> None:
    """Each has seen the time as it is."""
    for store in stores:
        await store.note_time(HOLD)
        await store.lease("any", "any", 60)


async def test_after_a_step_back_what_was_due_is_due(
    store: Store, server: Server, clock: Clock
) -> None:
    await started(store)
    waits = await store.update(await admitted(store), delay=HOLD + 1)
    await submitted(store, submitter=BOB)
    await store.outbox_take(100, HOLD)
    clock.step(-MINUTES)
    assert await store.admit(LIMITS.staging) is None
    assert MINUTES / 2 < await store.note_time(HOLD) <= MINUTES
    assert await until(lambda: store.admit(LIMITS.staging))
    job = await store.job(waits.job_id)
    assert job is not None
    assert job.due_at is not None
    assert 0 < left(server, job.due_at) <= HOLD + 1
    assert job.version == waits.version


async def test_after_a_step_back_each_later_time_keeps_its_pause(
    store: Store, server: Server, clock: Clock
) -> None:
    await started(store)
    waits = await store.update(await admitted(store), delay=3600)
    clock.step(-MINUTES)
    await store.note_time(HOLD)
    job = await store.job(waits.job_id)
    assert job is not None
    assert job.due_at is not None
    assert 3000 < left(server, job.due_at) <= 3900


async def test_after_a_step_back_those_that_rest_go_on_in_time(
    store: Store, database: Database, clock: Clock
) -> None:
    """One whose place is in order again, and one that tries, though submitted in time to come."""
    await started(store)
    tries = await out(store, database)
    waiting = await submitted(store)
    assert await store.admit(LIMITS.staging) is None
    clock.step(-MINUTES)
    await store.note_time(HOLD)
    (rest,) = await store.rests(10)
    assert await store.try_rests(RULES, 10) == 0
    await database.execute("UPDATE rests SET next_try = next_try - INTERVAL %s SECOND", 2 * HOLD)
    assert await store.try_rests(RULES, 10) == 1
    assert await store.claim(tries.job_id, HOLD) is not None
    assert await store.end_rest(rest.place_key)
    assert await store.free_rested(RULES, 100) > 0
    job = await store.admit(LIMITS.staging)
    assert job is not None
    assert job.job_id == waiting.job_id


async def test_a_step_back_touches_none_that_wait_for_their_place(
    store: Store, database: Database, clock: Clock
) -> None:
    """Of a hundred thousand no statement would end in its time. Who may go on is due."""
    await started(store)
    await store.apply(await out(store, database), Event.CANCEL)
    tries, waits = await submitted(store), await submitted(store)
    assert await store.admit(LIMITS.staging) is None
    await database.execute("UPDATE rests SET next_try = NOW(6)")
    assert await store.try_rests(RULES, 10) == 1
    before = await store.job(waits.job_id)
    clock.step(-MINUTES)
    await store.note_time(HOLD)
    after = await store.job(waits.job_id)
    assert before is not None
    assert after is not None
    assert after.rest is not None
    assert after.due_at == before.due_at
    admitted = await until(lambda: store.admit(LIMITS.staging))
    assert isinstance(admitted, Job)
    assert admitted.job_id == tries.job_id


async def test_after_a_step_back_an_operators_rest_ends_when_they_said(
    store: Store, clock: Clock
) -> None:
    await started(store)
    until = datetime.now(UTC) + timedelta(days=2)
    await store.begin_rest(operators_place(HOST), "a new disk", until, "root")
    clock.step(-MINUTES)
    await store.note_time(HOLD)
    (rest,) = await store.rests(10)
    assert rest.next_try == until


async def test_what_the_stager_accepts_ahead_is_counted_on_after_the_step_back(
    store: Store, clock: Clock, server: Server
) -> None:
    """Else it would not time out before the clock comes there once more."""
    await started(store)
    _, staging = await store.enter_staging(await admitted(store), HOLD)
    clock.step(MINUTES)
    await store.update_staging(staging, delay=HOLD, state=StagingState.WAITING, accepted=NOW)
    await store.note_time(HOLD)
    clock.step(0)
    assert MINUTES / 2 < await store.note_time(HOLD) <= MINUTES
    staging = await store.staging(staging.staging_id) or staging
    assert staging.accepted is not None
    assert abs(left(server, staging.accepted) - MINUTES) < HOLD
    assert await until(lambda: store.age(staging.accepted))


async def test_after_a_step_back_waiting_is_counted_on(store: Store, clock: Clock) -> None:
    """Not from ten minutes later on, as a time-out would be."""
    await started(store)
    soon, later = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (0, HOLD))
    for seconds in (-MINUTES, -2 * MINUTES):
        clock.step(seconds)
        await store.note_time(HOLD)
        assert await store.age(soon - timedelta(seconds=HOLD)) > 0
        assert await store.age(later) == 0


async def test_a_step_back_of_long_ago_makes_nothing_older(store: Store, migrated: Server) -> None:
    """After one of a second, which is too small to be noted, a moment lies ahead too."""
    await started(store)
    migrated.run(
        "INSERT INTO clock_steps (was, became)"
        " VALUES (NOW(6) - INTERVAL 90 DAY, NOW(6) - INTERVAL 100 DAY)"
    )
    assert await store.age(datetime.now(UTC) + timedelta(seconds=HOLD)) == 0


async def test_a_step_back_is_noted_once(
    store: Store, other: Store, database: Database, clock: Clock
) -> None:
    await started(store, other)
    clock.step(-MINUTES)
    noted = await asyncio.gather(*(each.note_time(HOLD) for each in (store, other) * 4))
    assert sum(seconds > 0 for seconds in noted) == 1
    (step,) = await Inspection(database).steps_back(10)
    assert MINUTES / 2 < (step.was - step.became).total_seconds() <= MINUTES


async def test_a_step_back_shortens_no_claim(store: Store, clock: Clock) -> None:
    await started(store)
    job = await admitted(store)
    claimed = await store.claim(job.job_id, HOLD)
    clock.step(-MINUTES)
    await store.note_time(HOLD)
    assert claimed is not None
    assert await store.claim(job.job_id, HOLD) is None
    assert await store.update(claimed, delay=0)


async def test_a_dead_holders_lease_is_taken_over_after_a_step_back(
    store: Store, other: Store, clock: Clock
) -> None:
    await started(store, other)
    assert await store.lease("sweep", "dead", TTL) == 1
    clock.step(-MINUTES)
    assert await other.lease("sweep", "b", TTL) is None
    assert await until(lambda: other.lease("sweep", "b", TTL)) == 2


@pytest.mark.parametrize("seconds", [-MINUTES, DAY])
async def test_a_step_takes_no_lease_from_a_holder_that_renews_it(
    store: Store, other: Store, clock: Clock, seconds: int
) -> None:
    await started(store, other)
    assert await store.lease("sweep", "a", 60)
    clock.step(seconds)
    assert await other.lease("sweep", "b", 60) is None
    assert await store.lease("sweep", "a", 60)
    assert await other.lease("sweep", "b", 60) is None


async def test_a_dead_holders_lease_is_taken_over_after_a_step_ahead(
    store: Store, other: Store, clock: Clock
) -> None:
    await started(store, other)
    assert await store.lease("sweep", "dead", TTL) == 1
    clock.step(DAY)
    assert await other.lease("sweep", "b", TTL) is None
    assert await until(lambda: other.lease("sweep", "b", TTL)) == 2


async def test_a_dead_holders_lease_is_taken_over_after_a_step_ahead_and_back(
    store: Store, other: Store, clock: Clock
) -> None:
    await started(store, other)
    assert await store.lease("sweep", "dead", TTL) == 1
    clock.step(MINUTES)
    assert await other.lease("sweep", "b", TTL) is None
    clock.step(0)
    assert await until(lambda: other.lease("sweep", "b", TTL)) == 2


async def test_a_step_back_is_no_finding(store: Store, database: Database, clock: Clock) -> None:
    await started(store)
    job = await admitted(store)
    clock.step(-MINUTES)
    await store.note_time(HOLD)
    await store.apply(job, Event.CANCEL, delay=None)
    (record,) = (await Inspection(database).page("", 9)).records
    assert [*problems(record, ())] != []
    assert [*problems(record, await Inspection(database).steps_back(10))] == []


async def test_no_job_ends_by_a_step_ahead(store: Store, clock: Clock) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    await started(store)
    late = await submitted(store, deadline=soon)
    clock.step(DAY)
    assert await store.expired(10) == []
    assert await store.age(late.time_submitted) < HOLD
    later = await submitted(store, submitter=BOB, deadline=soon)
    assert {await admitted_id(store), await admitted_id(store)} == {late.job_id, later.job_id}
    clock.step(0)
    assert await store.expired(10) == []


async def test_no_patience_ends_by_a_step_ahead(
    store: Store, database: Database, clock: Clock
) -> None:
    """That of a job which was submitted just now, and whose place has rested for long."""
    await started(store)
    job = await out(store, database)
    await database.execute("UPDATE rests SET since = since - INTERVAL 8 DAY")
    clock.step(8 * DAY)
    assert await store.tired(RULES, 10) == {}
    clock.step(0)
    assert [*await store.tired(replace(RULES, patience=0.0), 10)] == [job.job_id]


async def test_no_operators_rest_ends_by_a_step_ahead(store: Store, clock: Clock) -> None:
    await started(store)
    until = datetime.now(UTC) + timedelta(hours=2)
    await store.begin_rest(operators_place(HOST), "a new disk", until, "root")
    clock.step(DAY)
    await store.try_rests(RULES, 10)
    (rest,) = await store.rests(10)
    assert rest.next_try == until


async def test_no_key_is_wiped_by_a_step_ahead(
    store: Store, database: Database, clock: Clock
) -> None:
    delegations = Delegations(database)
    await started(store)
    asked = await delegations.keep_request("alice", "/CN=alice", "request", b"key")
    soon = datetime.now(UTC) + timedelta(hours=1)
    await delegations.accept(asked, proxy="proxy", key=b"key", expires=soon)
    await delegations.keep_request("bob", "/CN=bob", "request", b"key")
    clock.step(DAY)
    assert await delegations.expiring(60, 10) == []
    assert await delegations.wipe(await held(store), 3600) == 0
    assert await delegations.wipe(await held(store), 0) == 1, "what is over is over"


async def test_no_history_goes_by_a_step_ahead(store: Store, clock: Clock) -> None:
    await started(store)
    await store.apply(await admitted(store), Event.CANCEL, delay=None)
    clock.step(DAY)
    fence = await held(store)
    assert await store.archive(fence, 3600, 10) == 0
    assert await store.outbox_trim(fence, 3600, 10) == 0
    assert await store.archive(fence, 0, 10) == 1
    assert await store.forget(fence, 3600, 10) == 0


async def test_a_step_ahead_is_shown_until_it_is_taken_back(
    store: Store, database: Database, clock: Clock
) -> None:
    await started(store)
    clock.step(DAY)
    await store.expired(10)
    assert re.match(r"its clock has stepped ahead by 86\d\d\d s", database.clock.doubt() or "")
    clock.step(0)
    await store.expired(10)
    assert database.clock.doubt() is None


async def test_what_stays_ahead_is_believed(store: Store, migrated: Server, clock: Clock) -> None:
    impatient = Database(migrated.settings(clock_settling=0.2))
    quick = Store(impatient)
    await started(store, quick)
    job = await submitted(store, deadline=datetime.now(UTC) + timedelta(hours=1))
    clock.step(DAY)
    assert await quick.expired(10) == []
    assert await until(lambda: quick.expired(10)) == [job.job_id]
    assert await store.expired(10) == []
    impatient.close()


async def test_after_a_day_ahead_and_back_all_is_due_in_time(
    store: Store, server: Server, clock: Clock
) -> None:
    await started(store)
    clock.step(DAY)
    await started(store)
    waits = await store.update(await admitted(store), delay=HOLD + 1)
    await submitted(store, submitter=BOB)
    clock.step(0)
    assert DAY / 2 < await store.note_time(HOLD) <= DAY
    assert await until(lambda: store.admit(LIMITS.staging))
    job = await store.job(waits.job_id)
    assert job is not None
    assert job.due_at is not None
    assert left(server, job.due_at) <= HOLD + 1


async def test_what_fts_took_on_the_day_ahead_is_looked_for(store: Store, clock: Clock) -> None:
    await started(store)
    clock.step(DAY)
    job = await store.apply(await admitted(store), Event.TRANSFER, delay=None, time_staged=NOW)
    await store.update(job, fts_endpoint="fts1", fts_jobid=job.job_id, fts_posted=NOW)
    clock.step(0)
    assert await store.transferring("fts1", older_than=20)


async def admitted_id(store: Store) -> str | None:
    job = await store.admit(LIMITS.staging)
    return job.job_id if job else None

"""When a place begins to rest: by failures in a row, by a user's credential, by its operators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.samples import (
    ALICE,
    HOST,
    LIMITS,
    admitted,
    assigned,
    open_transfers,
    submitted,
    with_files,
)

from deliv.db.database import Database
from deliv.model.file import FileResult, FileState
from deliv.model.job import TransferIdentity, delegation_id
from deliv.model.rest import (
    Cause,
    operators_place,
)
from deliv.model.states import Event
from deliv.store import Store
from integration.resting_jobs import (
    RULES,
    at_fts,
    due_again,
    fails,
    out,
    place,
    reached,
    resting,
)

pytestmark = pytest.mark.usefixtures("counted")


async def test_a_place_rests_after_some_failures_in_a_row(store: Store, database: Database) -> None:
    await reached(database)
    job = await at_fts(store)
    for _ in range(RULES.after - 1):
        job = await fails(store, job)
        assert (await resting(store), job.rest) == ([], None)
        assert job.waiting_for == "destination"
    job = await fails(store, job)
    (rest,) = await resting(store)
    assert (rest.place, rest.cause, rest.proven, rest.tries) == (HOST, Cause.DESTINATION, True, 0)
    assert (job.rest, job.excused, job.own_attempts) == (rest.place_key, 3, 1)
    assert (job.waiting_for, job.waiting_since) == ("destination", rest.since)
    assert "can't be reached (DESTINATION [111] refused" in (job.detailed_status or "")
    assert "ever delivered" not in (job.detailed_status or "")


async def test_a_delivery_in_between_has_the_count_begin_again(
    store: Store, database: Database
) -> None:
    await reached(database)
    job = await at_fts(store)
    for _ in range(3):
        job = await fails(store, await fails(store, job))
        await store.apply(await at_fts(store), Event.DELIVER)
    assert await resting(store) == []


async def test_failures_of_long_ago_do_not_count(store: Store, database: Database) -> None:
    await reached(database)
    job = await at_fts(store)
    for _ in range(2 * RULES.after):
        job = await fails(store, job)
        await database.execute("UPDATE rests SET failed = failed - INTERVAL 2 DAY")
    assert await resting(store) == []


async def test_attempts_that_take_hours_to_fail_are_failures_in_a_row(
    store: Store, database: Database
) -> None:
    """Or such a job would be tried for ever: only where it rests its patience ends."""
    await reached(database)
    job = await at_fts(store)
    for _ in range(RULES.after):
        assert await resting(store) == []
        job = await fails(store, job)
        await database.execute("UPDATE rests SET failed = failed - INTERVAL 5 HOUR")
    assert job.rest is not None


async def test_where_nothing_was_ever_delivered_the_first_failure_says_so(store: Store) -> None:
    job = await fails(store, await at_fts(store))
    (rest,) = await resting(store)
    assert not rest.proven
    assert rest.patience(RULES) == RULES.patience_new
    assert "its name or port is wrong" in (job.detailed_status or "")


async def test_a_delivery_is_remembered_for_its_host(store: Store) -> None:
    await store.apply(await at_fts(store), Event.DELIVER)
    await fails(store, await at_fts(store))
    assert await resting(store) == []


async def test_a_delivery_while_its_host_rests_is_remembered(
    store: Store, database: Database
) -> None:
    """Its other jobs are not given up after an hour, as if nothing had ever come there."""
    jobs = [await at_fts(store) for _ in range(3)]
    jobs = [await fails(store, job) for job in jobs]
    await due_again(database, store)
    tries = await store.claim(jobs[0].job_id, 60)
    assert tries is not None
    await store.apply(tries, Event.DELIVER)
    (rest,) = await resting(store)
    assert rest.patience(RULES) == RULES.patience


async def test_a_file_that_arrived_is_remembered_for_its_host(store: Store) -> None:
    """Though others of its product did not."""
    job = await assigned(store, await with_files(store, await admitted(store), 2), files=1)
    (transfer,) = await open_transfers(store, job)
    result = FileResult(number=1, state=FileState.FINISHED)
    over = {"fts_endpoint": None, "fts_jobid": None, "files_done": 1, "bytes_done": 1}
    job = await store.record(job, transfer, [result], **over)
    assert (await fails(store, job)).waiting_for == "destination"
    assert await resting(store) == []


async def test_of_several_jobs_each_has_its_own_place(store: Store) -> None:
    """Of several the one that operators have rest, else the one that has rested longest."""
    there, full = "gsiftp://b.example.org/data", "gsiftp://c.example.org/full"
    jobs = [
        await submitted(store),
        await submitted(store, destination_host="b.example.org", destination_path=there),
        await submitted(store, destination_host="c.example.org", destination_path=full),
        await submitted(store, destination_host="d.example.org", destination_path="gsiftp://d/"),
    ]
    await store.wait_at(place(jobs[0], Cause.SPACE), "full")
    await store.begin_rest(operators_place(HOST), "a disk", None, "root")
    for cause in (Cause.SPACE, Cause.DESTINATION):
        await store.wait_at(place(jobs[2], cause), "it is")
    found = await store.rests_of(jobs)
    assert [found[job.job_id].cause for job in (jobs[0], jobs[2])] == ["operators", "space"]
    assert len(found) == 2
    assert [await store.rest_of(job) for job in jobs] == [found.get(job.job_id) for job in jobs]
    assert await store.rests_of([]) == {}


DELEGATED = """
REPLACE INTO delegations (delegation_id, dn, proxy, proxy_key, expires)
VALUES (%s, %s, 'p', 'k', NOW(6) + INTERVAL %s SECOND)
"""


async def test_nothing_is_staged_for_a_user_without_a_credential_that_lasts(
    store: Store, database: Database
) -> None:
    jobs = [await submitted(store, copied_as=TransferIdentity.USER) for _ in range(3)]
    service = await submitted(store)
    await database.execute(DELEGATED, delegation_id(ALICE), ALICE, 1800)
    admitted = await store.admit(LIMITS.staging, RULES)
    assert admitted is not None
    assert admitted.job_id == service.job_id
    assert await store.admit(LIMITS.staging, RULES) is None
    found = await store.job(jobs[0].job_id)
    assert found is not None
    assert found.waiting_for == "delegation"
    await database.execute(DELEGATED, delegation_id(ALICE), ALICE, 7200)
    assert await store.free_rested(RULES, 100) == 3
    order = [job.job_id for _ in jobs if (job := await store.admit(LIMITS.staging, RULES))]
    assert order == [job.job_id for job in jobs]


async def test_a_copy_whose_credential_ended_is_not_tried_until_there_is_another(
    store: Store, database: Database
) -> None:
    job = await at_fts(store, copied_as=TransferIdentity.USER)
    job = await fails(store, job, Cause.DELEGATION)
    (rest,) = await resting(store)
    assert (job.rest, rest.next_try, rest.reason) == (rest.place_key, None, ALICE)
    await database.execute(DELEGATED, delegation_id(ALICE), ALICE, 7200)
    assert await store.free_rested(RULES, 100) == 1
    assert await store.claim(job.job_id, 60) is not None


async def test_an_operators_rest_lasts_until_then(store: Store, database: Database) -> None:
    waiting = await submitted(store)
    until = datetime.now(UTC) + timedelta(days=2)
    await store.begin_rest(operators_place(HOST), "a new disk", until, "root")
    assert await store.admit(LIMITS.staging) is None
    (rest,) = await resting(store)
    assert (rest.cause, rest.begun_by, rest.next_try) == (Cause.OPERATORS, "root", until)
    assert "the operators have user.example.org rest: a new disk; until" in rest.sentence()
    assert await store.rest_of(waiting) == rest
    await database.execute("UPDATE rests SET next_try = NOW(6)")
    await store.try_rests(RULES, 10)
    assert await store.admit(LIMITS.staging) is not None


async def test_nobody_tries_a_host_that_operators_have_rest(
    store: Store, database: Database
) -> None:
    """Though it rested by itself before."""
    job = await out(store, database)
    await store.begin_rest(operators_place(HOST), "a new disk", None, "root")
    await due_again(database, store)
    tries = await store.claim(job.job_id, 60)
    assert tries is not None
    assert tries.let_go is not None
    rest = await store.rest_of(tries)
    assert rest is not None
    assert rest.cause is Cause.OPERATORS

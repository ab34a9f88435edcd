"""Who tries a place that rests, and how the others go on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.samples import (
    HOST,
    LIMITS,
    staged,
    submitted,
)

from deliv.db.database import Database
from deliv.delivery.submit import Submissions
from deliv.model.job import Job
from deliv.model.rest import (
    ALL_GO,
    LET_GO,
    Cause,
    directory_place,
    operators_place,
)
from deliv.model.states import Event, Status
from deliv.store import NOW, Store
from integration.resting_jobs import (
    FULL,
    HANDED_OVER,
    RULES,
    at_fts,
    due_again,
    fails,
    out,
    place,
    reached,
    resting,
)
from integration.test_store_archive import DAY

pytestmark = pytest.mark.usefixtures("counted")


async def test_nobody_is_admitted_for_a_server_that_rests(store: Store, database: Database) -> None:
    await out(store, database)
    await submitted(store)
    other = await submitted(store, destination_path=f"gsiftp://{HOST}:2812/data")
    admitted = await store.admit(LIMITS.staging)
    assert admitted is not None
    assert admitted.job_id == other.job_id
    assert await store.admit(LIMITS.staging) is None


async def test_one_job_tries_at_growing_intervals(store: Store, database: Database) -> None:
    job = await out(store, database)
    pauses = []
    for _ in range(3):
        (rest,) = await resting(store)
        assert rest.next_try is not None
        assert rest.since is not None
        pauses.append(round((rest.next_try - (rest.failed or rest.since)).total_seconds()))
        await due_again(database, store)
        job = await store.claim(job.job_id, 60) or job
        assert job.let_go is not None
        assert await store.admit(LIMITS.staging) is None  # while it tries nobody else does
        job = await fails(store, job)
        assert job.let_go is None
    assert pauses == [60, 120, 240]


async def test_one_that_can_not_succeed_does_not_try_for_all(
    store: Store, database: Database
) -> None:
    """Each in flight in its turn, then one of the queue: a smaller product may have space."""
    await reached(database)
    flying = [await at_fts(store, destination_path=FULL) for _ in range(2)]
    for _ in range(RULES.after):
        flying = [await fails(store, job, Cause.SPACE) for job in flying]
    queued = await submitted(store, destination_path=FULL)
    assert await store.admit(LIMITS.staging) is None
    for job in flying:
        await due_again(database, store)
        assert await store.admit(LIMITS.staging) is None
        tries = await store.claim(job.job_id, 60)
        assert tries is not None
        assert tries.let_go is not None
        await fails(store, tries, Cause.SPACE)
    await due_again(database, store)
    admitted = await store.admit(LIMITS.staging)
    assert admitted is not None
    assert admitted.job_id == queued.job_id
    admitted = await store.apply(admitted, Event.STAGED, time_staged=NOW, stager_path="/copy")
    await fails(store, await at_fts(store, admitted), Cause.SPACE)
    await due_again(database, store)
    assert await store.claim(flying[0].job_id, 60) is not None


async def test_others_try_beside_one_that_takes_long_at_growing_intervals(
    store: Store, database: Database
) -> None:
    """It may copy for hours to a place that is in order again."""
    others = [await at_fts(store) for _ in range(2)]
    jobs = [await out(store, database), *[await fails(store, other) for other in others]]
    jobs.sort(key=lambda job: job.job_id)
    for number, job in enumerate(jobs):
        await due_again(database, store)
        assert (await store.claim(job.job_id, 60) or job).let_go is not None
        (rest,) = await resting(store)
        assert rest.tries == number


async def test_nobody_is_given_up_while_something_is_copied_there(
    store: Store, database: Database
) -> None:
    other = await at_fts(store)
    job = await out(store, database)
    other = await fails(store, other)
    impatient = replace(RULES, patience=0.0)
    assert len(await store.tired(impatient, 10)) == 2
    await due_again(database, store)
    tries = await store.claim(other.job_id, 60)  # which was submitted first
    assert tries is not None
    tries = await store.update(tries, **HANDED_OVER)
    assert not await store.tired(impatient, 10)
    await store.apply(tries, Event.CANCEL)
    assert [*await store.tired(impatient, 10)] == [job.job_id]


async def test_how_anothers_job_failed_is_not_told(store: Store, database: Database) -> None:
    job = await out(store, database, product_id="of somebody else")
    assert "of somebody else" in (job.detailed_status or "")
    waiting = await submitted(store)
    assert await store.admit(LIMITS.staging) is None
    found = await store.job(waiting.job_id)
    assert found is not None
    assert f"{HOST} can't be reached (refused)" in (found.detailed_status or "")
    assert "of somebody else" not in (found.detailed_status or "")


async def test_where_none_is_staged_one_that_waits_for_its_turn_tries(
    store: Store, database: Database
) -> None:
    job = await out(store, database)
    await store.apply(job, Event.CANCEL)
    for _ in range(2):
        await submitted(store)
    assert await store.admit(LIMITS.staging) is None
    await due_again(database, store)
    one = await store.admit(LIMITS.staging)
    assert one is not None
    assert one.let_go is not None
    assert await store.admit(LIMITS.staging) is None


async def test_who_comes_to_rest_when_nobody_was_there_to_try_tries_next(
    store: Store, database: Database
) -> None:
    """It keeps its copy, and does not wait until that is given back."""
    staged_before = await staged(store)
    tried = await out(store, database)
    await store.apply(tried, Event.CANCEL)
    await due_again(database, store)
    (rest,) = await resting(store)
    assert rest.allowance == 1
    await store.rest(staged_before, rest, RULES.keep_staged)
    await due_again(database, store)
    tries = await store.claim(staged_before.job_id, 60)
    assert tries is not None
    assert tries.let_go is not None
    assert await store.admit(LIMITS.staging) is None
    (rest,) = await resting(store)
    assert rest.allowance == 0


async def test_one_of_the_queue_that_tries_is_not_marked_with_the_others(
    store: Store, database: Database
) -> None:
    """Behind one that came back to the queue, where it had been before."""
    await store.apply(await out(store, database), Event.CANCEL)
    back, tries = await submitted(store), await submitted(store)
    assert await store.admit(LIMITS.staging) is None
    await database.execute(
        "UPDATE jobs SET rest = NULL, due_at = time_submitted WHERE job_id = %s", back.job_id
    )
    await due_again(database, store)
    one = await store.admit(LIMITS.staging)
    assert one is not None
    assert (one.job_id, one.let_go is not None) == (tries.job_id, True)


async def test_each_success_lets_others_go_in_steps(store: Store, database: Database) -> None:
    jobs = [await out(store, database)]
    for _ in range(30):
        await submitted(store)
    assert await store.admit(LIMITS.staging) is None
    await due_again(database, store)
    going = [await store.claim(jobs[0].job_id, 60) or jobs[0]]
    steps = []
    for _ in range(3):
        for job in going:
            await store.apply(job, Event.DELIVER)
        going = []
        await store.free_rested(RULES, 100)
        while admitted := await store.admit(LIMITS.staging):
            admitted = await store.apply(admitted, Event.STAGED, stager_path="/x")
            going.append(await at_fts(store, admitted))
        steps.append(len(going))
    assert steps[:2] == [2, 4]
    assert steps[2] == 30 - 2 - 4
    assert await resting(store) == []
    assert 1 + 2 + 4 == ALL_GO


async def test_a_failure_while_others_go_on_has_all_rest_again(
    store: Store, database: Database
) -> None:
    job = await out(store, database)
    for _ in range(3):
        await submitted(store)
    await due_again(database, store)
    await store.apply(await store.claim(job.job_id, 60) or job, Event.DELIVER)
    one, other = await store.admit(LIMITS.staging), await store.admit(LIMITS.staging)
    assert one is not None
    assert other is not None
    one = await store.apply(one, Event.STAGED, stager_path="/x")
    other = await store.apply(other, Event.STAGED, stager_path="/y")
    await fails(store, await at_fts(store, one))
    assert await store.admit(LIMITS.staging) is None
    (rest,) = await resting(store)
    assert (rest.tries, rest.allowance, rest.successes) == (1, 0, 0)


async def test_those_that_fail_together_are_one_try(store: Store, database: Database) -> None:
    jobs = [await at_fts(store) for _ in range(1 + LET_GO)]
    jobs = [await fails(store, job) for job in jobs]
    await due_again(database, store)
    tries = await store.claim(jobs[0].job_id, 60)
    assert tries is not None
    await store.apply(tries, Event.DELIVER)
    going = [await store.claim(job.job_id, 60) for job in jobs[1:]]
    for job in going:
        assert job is not None
        assert (await fails(store, job)).let_go is None
    (rest,) = await resting(store)
    assert rest.tries == 1


async def full(store: Store) -> Job:
    job = await at_fts(store, destination_path=FULL)
    return await fails(store, job, Cause.SPACE)


async def test_others_pass_those_whose_directory_is_full(store: Store, database: Database) -> None:
    await reached(database)
    for _ in range(3):
        await full(store)
    (rest,) = await resting(store)
    assert (rest.host, rest.place) == (None, FULL)
    waiting = [await submitted(store, destination_path=FULL) for _ in range(5)]
    behind = await submitted(store)
    admitted = await store.admit(LIMITS.staging)
    assert admitted is not None
    assert admitted.job_id == behind.job_id
    assert await store.admit(LIMITS.staging) is None
    for job in waiting:
        found = await store.job(job.job_id)
        assert found is not None
        assert (found.status, found.waiting_for) == (Status.SUBMITTED, "space")
        assert "has no space left" in (found.detailed_status or "")
    await store.begin_rest(operators_place(HOST), "a new disk", None, "root")
    (shown,) = await Submissions(store, DAY, LIMITS).as_resting([found])
    assert (shown.waiting_for, "a new disk" in (shown.detailed_status or "")) == ("operators", True)


async def test_others_pass_those_of_several_directories_that_are_full(
    store: Store, database: Database
) -> None:
    """At once: where none is admitted the sweep looks no further."""
    await reached(database)
    directories = [f"{FULL}/{number}" for number in range(15)]
    await database.execute(
        """
        INSERT INTO rests (place_key, cause, place, reason, since)
        VALUES """  # noqa: S608 - marks
        + ", ".join(["(%s, 'space', %s, 'full', NOW(6))"] * len(directories)),
        *(value for name in directories for value in (directory_place(name).key, name)),
    )
    for name in directories:
        await submitted(store, destination_path=name)
    behind = await submitted(store)
    admitted = await store.admit(LIMITS.staging)
    assert admitted is not None
    assert admitted.job_id == behind.job_id


async def test_they_come_back_in_their_order_when_there_is_space(
    store: Store, database: Database
) -> None:
    await reached(database)
    (*_, tried) = [await full(store) for _ in range(3)]
    waiting = [await submitted(store, destination_path=FULL) for _ in range(5)]
    assert await store.admit(LIMITS.staging) is None
    younger = await submitted(store)
    assert await store.end_rest(place(tried, Cause.SPACE).key)
    assert await store.free_rested(RULES, 100) == 1 + 5
    order = []
    while job := await store.admit(LIMITS.staging):
        assert (job.waiting_for, job.rest, job.detailed_status) == (None, None, None)
        order.append(job.job_id)
    assert order == [job.job_id for job in [*waiting, younger]]
    assert await store.free_rested(RULES, 100) == 0
    assert await database.query("SELECT 1 FROM rests") == []

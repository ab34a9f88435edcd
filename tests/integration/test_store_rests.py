"""Places that rest: when they begin to, who tries, and how the others go on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.private_mariadb import Server
from support.samples import (
    ALICE,
    BOB,
    HOST,
    LIMITS,
    admitted,
    assigned,
    fill,
    open_transfers,
    staged,
    submitted,
    with_files,
)

from deliv.db.database import Database
from deliv.model.backoff import Backoff
from deliv.model.file import FileResult, FileState
from deliv.model.job import Job, TransferIdentity, delegation_id
from deliv.model.rest import (
    ALL_GO,
    LET_GO,
    Cause,
    Place,
    Rest,
    RestRules,
    directory_place,
    operators_place,
    place_of,
)
from deliv.model.states import Event, Status
from deliv.store import NOW, Store

pytestmark = pytest.mark.usefixtures("counted")

RULES = RestRules(least_life=3600)
FULL = "gsiftp://user.example.org/full"
AHEAD = "UPDATE rests SET next_try = next_try - INTERVAL 1 DAY, since = since - INTERVAL 1 DAY"
HANDED_OVER = {"fts_endpoint": "fts1", "fts_jobid": "x"}


def place(job: Job, cause: Cause = Cause.DESTINATION) -> Place:
    found = place_of(cause, job)
    assert found is not None
    return found


async def at_fts(store: Store, job: Job | None = None, **changes: object) -> Job:
    return await store.apply(job or await staged(store, **changes), Event.TRANSFER)


async def fails(
    store: Store, job: Job, cause: Cause = Cause.DESTINATION, rules: RestRules = RULES
) -> Job:
    """The job after its copy failed for that."""
    changes = {"attempt": job.attempt + 1, "excused": job.excused + 1}
    what = place(job, cause), "refused", f"DESTINATION [111] refused {job.product_id}", rules
    found = await store.fail_at(job, Event.RETRANSFER, *what, **changes)
    assert found is not None
    return found


async def reached(database: Database, server: str = HOST) -> None:
    await database.execute("INSERT IGNORE INTO reached_servers VALUES (%s)", server)


async def resting(store: Store) -> list[Rest]:
    return await store.rests(10)


async def out(store: Store, database: Database, **changes: object) -> Job:
    """A job that rests, as its host does, to which others were delivered."""
    await reached(database)
    job = await at_fts(store, **changes)
    for _ in range(RULES.after):
        job = await fails(store, job)
    assert job.rest is not None
    return job


async def due_again(database: Database, store: Store) -> None:
    await database.execute(AHEAD)
    assert await store.try_rests(RULES, 10) == 1


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

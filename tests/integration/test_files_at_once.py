"""A job's files in several transfers at once, and in turn with those of others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.samples import HOST, open_transfers, staged

from deliv.delivery.ending.failure import Failure
from deliv.errors import LostRace
from deliv.model.error_classes import ErrorClass
from deliv.model.file import FileState
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.rest import operators_place
from deliv.model.states import Event, Status
from deliv.model.transfer import Progress
from integration.files_steps import (
    DENIED,
    DIRECTORY,
    SIZE,
    Opened,
    another,
    but,
    copied,
    done,
    ended,
    files,
    finished,
    opened_fixture,  # noqa: F401 - fixtures are used by their names
    other_users,
    reported,
    shown,
    started,
    states,
    two_open,
)
from integration.fts_bench import Bench
from integration.scripted_fts import reply


async def test_while_files_are_copied_others_are_handed_over(opened: Opened) -> None:
    async with opened as here:
        job, second, third = await two_open(here)
        assert [len(asked["files"]) for asked in (second, third)] == [200, 200]
        assert [one.slice for one in await open_transfers(here.store, job)] == [1, 2]
        assert (job.files_at_fts, job.due_at is not None) == (400, True)
        job = await ended(here, job, 0, second)
        assert (phase(job), job.files_done, job.files_at_fts) == (Phase.COPYING, 210, 200)
        job, fourth = await another(here, job)
        assert len(fourth["files"]) == 40
        job = await ended(here, job, 1, fourth)  # in whatever order they end
        assert (phase(job), job.files_done) == (Phase.COPYING, 250)
        job = await ended(here, job, 0, third)
        assert (job.status, *done(job)[:2]) == (Status.SUCCESS, 450, 450)
        sids = {asked["params"]["sid"] for asked in (second, third, fourth)}
        assert sids == {f"{job.job_id}:1.{number}" for number in (1, 2, 3)}


async def test_no_more_files_are_handed_over_while_the_host_rests(opened: Opened) -> None:
    """What FTS has goes on, and then the job rests."""
    async with opened as here:
        job, _ = await copied(here, await reported(here, 450))
        job, second = await started(here, job)
        await here.store.begin_rest(operators_place(HOST), "a new disk", None, "root")
        await here.transfers.start_another(job)
        assert len(await open_transfers(here.store, job)) == 1
        job = await ended(here, await here.now(job), 0, second)
        assert (phase(job), job.files_done) == (Phase.STAGED, 210)
        assert await here.parts.patience.released(job) is None
        assert (await here.now(job)).waiting_for == "operators"


@pytest.mark.parametrize("open_still", [True, False])
async def test_a_late_post_withdraws_no_transfer_that_is_open(
    opened: Opened, open_still: bool
) -> None:
    """Another worker has posted it meanwhile, and then more of the job's files."""
    async with opened as here:
        job, second, _ = await two_open(here)
        transfer = (await open_transfers(here.store, job))[0]
        late = replace(job, fts_jobid=transfer.fts_jobid, slice=transfer.slice, fts_posted=None)
        if not open_still:
            job = await ended(here, job, 0, second)
        late = replace(late, version=late.version - 1)
        here.server.on("POST", "/jobs", reply({"job_id": transfer.fts_jobid}))
        canceled = {"job_id": transfer.fts_jobid, "job_state": "CANCELED"}
        here.server.on("DELETE", f"/jobs/{transfer.fts_jobid}", reply(canceled))
        with pytest.raises(LostRace):
            await here.transfers.post(late)
        assert bool(here.server.calls("DELETE", f"/jobs/{transfer.fts_jobid}")) != open_still


async def test_the_first_files_tell_whether_others_follow(opened: Opened) -> None:
    async with opened as here:
        job, _ = await started(here, await reported(here, 450))
        await here.transfers.start_another(job)
        job = await here.now(job)
        assert (phase(job), job.due_at, job.files_at_fts) == (Phase.COPYING, None, 10)
        assert len(here.server.calls("POST", "/jobs")) == 1


async def test_when_a_transfer_brings_nothing_no_other_follows(opened: Opened) -> None:
    async with opened as here:
        job, second, third = await two_open(here)
        job = await ended(here, job, 0, second, lambda _: DENIED, "FAILED")
        await here.transfers.start_another(job)
        job = await here.now(job)
        assert (phase(job), job.due_at) == (Phase.COPYING, None)
        job = await ended(here, job, 0, third, lambda _: DENIED, "FAILED")
        assert (job.status, job.error_class) == (Status.ERROR, "no permission")
        assert "10 of 450 files arrived; 440 did not (40 of them were not tried)" in (
            job.detailed_status or ""
        )


async def test_what_fails_in_several_transfers_is_tried_again_together(opened: Opened) -> None:
    unreachable = {"file_state": "FAILED", "reason": "DESTINATION [70] Connection refused"}
    async with opened as here:
        job, second, third = await two_open(here, 410)
        job = await ended(here, job, 1, third, but({"chunk/00300": unreachable}), "FINISHEDDIRTY")
        assert (phase(job), job.attempt) == (Phase.COPYING, 1)
        job = await ended(here, job, 0, second, but({"chunk/00100": unreachable}), "FINISHEDDIRTY")
        assert (phase(job), job.attempt, job.files_done) == (Phase.STAGED, 2, 408)
        job, again = await copied(here, job)
        assert (again, job.status) == (["chunk/00100", "chunk/00300"], Status.SUCCESS)


async def test_one_of_two_transfers_that_fts_has_lost(opened: Opened) -> None:
    async with opened as here:
        job, second, _ = await two_open(here, 410)
        lost = (await open_transfers(here.store, job))[1]
        await here.settlement.lost(job, lost)
        job = await here.now(job)
        assert (phase(job), job.attempt) == (Phase.COPYING, 1)
        assert await states(here, job) == {
            FileState.FINISHED: 10, FileState.ASSIGNED: 200, FileState.WAITING: 200,
        }  # fmt: skip
        job = await ended(here, job, 0, second)
        assert (phase(job), job.attempt, job.files_done) == (Phase.STAGED, 2, 210)
        waiting = await files(here, job, FileState.WAITING)
        assert {(file.partial, file.error_class) for file in waiting} == {(True, "other")}


async def test_a_refused_transfer_fails_its_own_files_alone(opened: Opened) -> None:
    async with opened as here:
        job, _ = await copied(here, await reported(here, 410))
        job, second = await started(here, job)
        here.server.on("POST", "/jobs", reply({"message": "in use"}, 409))
        refused = await here.endpoint.job_id(f"{job.job_id}:1.2")
        unknown = reply({"job_id": refused, "http_status": "404 Not Found"}, 404)
        here.server.on("GET", f"/jobs/{refused}", unknown)
        here.server.on("GET", f"/archive/{refused}", unknown)
        await here.transfers.start_another(job)
        job = await here.now(job)
        assert (phase(job), job.attempt) == (Phase.COPYING, 1)
        assert (await states(here, job))[FileState.FAILED] == 200
        job = await ended(here, job, 0, second)
        assert (job.status, job.error_class, job.files_done) == (Status.ERROR, "exists", 210)


async def test_a_cancel_stops_all_transfers(opened: Opened) -> None:
    async with opened as here:
        job, second, third = await two_open(here)
        one, two = await open_transfers(here.store, job)
        cancelled = {"file_state": "CANCELED", "reason": "Job canceled by the user"}
        first = {asked["destinations"][0] for asked in second["files"][:5]}
        arrived = {url.removeprefix(f"{DIRECTORY}/"): finished(url) for url in first}
        answers = [
            shown(
                here, one.fts_jobid, second, lambda name: arrived.get(name, cancelled), "CANCELED"
            ),
            shown(here, two.fts_jobid, third, lambda _: cancelled, "CANCELED"),
        ]
        both = f"/jobs/{one.fts_jobid},{two.fts_jobid}"
        here.server.on("GET", both, reply(answers))
        job = await here.cancellation.cancel(job.job_id)
        assert job.status is Status.CANCELLED
        assert "15 files arrived whole" in (job.detailed_status or "")
        for transfer in (one, two):
            assert here.server.calls("DELETE", f"/jobs/{transfer.fts_jobid}")
        assert await open_transfers(here.store, job) == ()
        assert FileState.ASSIGNED not in await states(here, job)


async def test_files_of_transfers_that_fts_has_lost_failed_when_the_job_is_cancelled(
    opened: Opened,
) -> None:
    async with opened as here:
        job, _, _ = await two_open(here)
        one, two = await open_transfers(here.store, job)
        gone = [
            {"job_id": transfer.fts_jobid, "http_status": "404 Not Found"}
            for transfer in (one, two)
        ]
        here.server.on("GET", f"/jobs/{one.fts_jobid},{two.fts_jobid}", reply(gone))
        for transfer in (one, two):
            unknown = reply({"status": "404"}, 404)
            here.server.on("DELETE", f"/jobs/{transfer.fts_jobid}", unknown)
            here.server.on("GET", f"/archive/{transfer.fts_jobid}", unknown)
        job = await here.cancellation.cancel(job.job_id)
        assert job.status is Status.CANCELLED
        assert "10 files arrived whole, 400 may be there in part, 40 not" in (
            job.detailed_status or ""
        )
        failed = await files(here, job, FileState.FAILED)
        assert (len(failed), {file.partial for file in failed}) == (400, {True})


async def test_what_is_open_when_a_job_ends_is_withdrawn(opened: Opened) -> None:
    async with opened as here:
        job, _, _ = await two_open(here)
        one, two = await open_transfers(here.store, job)
        failure = Failure(error_class=ErrorClass.OTHER, reason="for a test")
        job = await here.failures.end(job, failure)
        assert FileState.ASSIGNED not in await states(here, job)
        for transfer in (one, two):
            here.server.on("DELETE", f"/jobs/{transfer.fts_jobid}", reply({
                "job_id": transfer.fts_jobid, "job_state": "CANCELED",
            }))  # fmt: skip
        await here.cleanup.clean_up(job)
        for transfer in (one, two):
            assert here.server.calls("DELETE", f"/jobs/{transfer.fts_jobid}")


async def test_a_job_waits_for_its_turn_and_gets_it_when_others_end(opened: Opened) -> None:
    async with opened as here:
        mine, second, _ = await two_open(here)  # 400 files, as many as FTS may have
        theirs, _ = await copied(here, await other_users(here, "other", 60))
        await here.transfers.start(theirs)
        theirs = await here.now(theirs)
        assert (phase(theirs), theirs.turn_since is None) == (Phase.STAGED, False)
        assert "waiting: its turn" in (theirs.detailed_status or "")
        await here.transfers.start_another(mine)
        mine = await here.now(mine)
        assert (mine.turn_since is None, mine.due_at) == (False, None)
        turn = await here.polling.turn()
        assert await here.store.give_turns(turn) == 0
        mine = await ended(here, mine, 0, second)
        assert await here.store.give_turns(turn) == 2  # both fit: 200 + 50 + 40
        theirs = await here.store.claim(theirs.job_id, 30) or theirs
        assert await here.store.give_turns(turn) == 0  # once: who attends to it is not interrupted
        assert await here.store.claim(theirs.job_id, 30) is None
        theirs, asked = await started(here, await here.now(theirs))
        assert (len(asked["files"]), phase(theirs)) == (50, Phase.COPYING)
        assert theirs.detailed_status is None
        mine, asked = await another(here, await here.now(mine))
        assert (len(asked["files"]), mine.turn_since) == (40, None)


async def test_the_first_files_of_a_user_wait_for_nobody(opened: Opened) -> None:
    async with opened as here:
        await two_open(here)
        theirs, asked = await started(here, await other_users(here, "other", 60))
        assert (len(asked["files"]), phase(theirs)) == (10, Phase.COPYING)


async def one_large_file(here: Bench, name: str) -> Job:
    job = await staged(here.store)
    place = {"stager_hostname": "archive.example.org", "stager_path": f"/copy/{name}"}
    return await here.store.update(job, **place, product_size=3 * 2**40)


async def test_who_has_his_share_of_the_bytes_there_waits_for_his_own(opened: Opened) -> None:
    """And nobody waits for him: a few large files of one are not in the way of small ones."""
    async with opened as here:
        first, second, third = [await one_large_file(here, name) for name in "abc"]
        first, _ = await started(here, first)
        second, _ = await started(here, second)
        assert (phase(second), second.bytes_at_fts) == (Phase.COPYING, 3 * 2**40)
        await here.transfers.start(third)  # FTS has more than 4 TiB
        third = await here.now(third)
        assert (phase(third), third.turn_since is None) == (Phase.STAGED, False)
        theirs, _ = await copied(here, await other_users(here, "other", 60))
        theirs, asked = await started(here, theirs)
        assert (len(asked["files"]), theirs.bytes_at_fts) == (50, 50 * SIZE)
        await here.store.apply(first, Event.DELIVER)
        assert (
            await here.store.give_turns(await here.polling.turn()) == 0
        )  # half of them are the other's
        await here.store.apply(second, Event.DELIVER)
        assert await here.store.give_turns(await here.polling.turn()) == 1
        third, _ = await started(here, await here.now(third))
        assert (phase(third), third.turn_since) == (Phase.COPYING, None)


async def test_what_is_at_fts_is_counted_in_bytes(opened: Opened) -> None:
    async with opened as here:
        job, second, _ = await two_open(here)
        assert (job.files_at_fts, job.bytes_at_fts) == (400, 400 * SIZE)
        transfer, _ = await open_transfers(here.store, job)
        seen = {(transfer.attempt, transfer.slice): Progress(active=8, ended=150, arrived=150)}
        await here.store.see_progress({job.job_id: seen})
        assert (await here.now(job)).bytes_at_fts == 250 * SIZE
        job = await ended(here, await here.now(job), 0, second)
        assert job.bytes_at_fts == 200 * SIZE


async def test_what_another_fts_has_is_in_nobodys_way(opened: Opened) -> None:
    """It may be out, for days."""
    async with opened as here:
        mine, _, _ = await two_open(here)
        sql = "UPDATE jobs SET fts_endpoint = 'fts2' WHERE job_id = %s"
        await here.parts.database.execute(sql, mine.job_id)
        theirs, _ = await copied(here, await other_users(here, "other", 60))
        theirs, asked = await started(here, theirs)
        assert (len(asked["files"]), theirs.turn_since) == (50, None)


async def test_what_no_fts_has_is_given_its_turn_where_it_would_go(opened: Opened) -> None:
    """Else it asks there in vain, again and again, and is in the way of what this one has."""
    async with opened as here:
        mine, _, _ = await two_open(here)
        theirs, _ = await copied(here, await other_users(here, "other", 60))
        await here.transfers.start(theirs)
        theirs = await here.now(theirs)
        assert theirs.turn_since is not None
        spare = replace(await here.polling.turn(), endpoint="fts2", takes_new=False)
        assert await here.store.give_turns(spare) == 0
        sql = "UPDATE jobs SET fts_endpoint = 'fts2', turn_since = NOW(6) WHERE job_id = %s"
        await here.parts.database.execute(sql, mine.job_id)
        assert await here.store.give_turns(replace(spare, files_per_pair=450)) == 1
        assert (await here.now(mine)).turn_given
        assert not (await here.now(theirs)).turn_given
        assert await here.store.give_turns(replace(spare, takes_new=True, files_per_pair=450)) == 1
        assert (await here.now(theirs)).turn_given


async def test_a_job_that_can_not_go_on_gives_up_its_turn(opened: Opened) -> None:
    async with opened as here:
        await two_open(here)
        theirs, _ = await copied(here, await other_users(here, "other", 60))
        await here.transfers.start(theirs)
        theirs = await here.now(theirs)
        assert theirs.turn_since is not None
        for _ in range(100):
            here.endpoint.breaker.failed("for a test")
        await here.transfers.start(theirs)
        assert (await here.now(theirs)).turn_since is None


@pytest.mark.parametrize("listed", [0, 1], ids=["none-listed", "one-listed"])
async def test_reconciling_looks_at_each_transfer(opened: Opened, listed: int) -> None:
    """One that FTS does not know is lost, while the other goes on."""
    async with opened as here:
        job, _, third = await two_open(here, 410)
        one, two = await open_transfers(here.store, job)
        shown(here, two.fts_jobid, third, lambda _: {"file_state": "ACTIVE"}, "ACTIVE")
        gone = {"job_id": one.fts_jobid, "http_status": "404 Not Found"}
        here.server.on("GET", f"/jobs/{one.fts_jobid}", reply(gone, 404))
        here.server.on("GET", f"/archive/{one.fts_jobid}", reply({"status": "404"}, 404))
        running = [{"job_id": two.fts_jobid, "job_state": "ACTIVE"}]
        here.server.on("GET", "/jobs", reply(running[:listed]))
        both = f"/jobs/{one.fts_jobid},{two.fts_jobid}"
        active = {
            "job_id": two.fts_jobid, "job_state": "ACTIVE", "http_status": "200",
            "files": [{"file_state": "ACTIVE"}],
        }  # fmt: skip
        here.server.on("GET", both, reply([gone, active]))
        for _ in range(3):
            await here.reconcile()
        job = await here.now(job)
        assert (phase(job), job.attempt) == (Phase.COPYING, 1)
        assert await open_transfers(here.store, job) == (two,)

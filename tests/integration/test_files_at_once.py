"""A job's files in several transfers at once, and in turn with those of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.samples import admitted, open_transfers

from deliv.delivery import watch
from deliv.delivery.ending.failure import Failure
from deliv.delivery.watch import Watching
from deliv.errors import LostRace
from deliv.gateways.fts.answers import FILE_FIELDS
from deliv.model.error_classes import ErrorClass
from deliv.model.file import FileState
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.states import Status
from deliv.model.transfer import OpenTransfer
from integration.files_steps import (
    DENIED,
    DIRECTORY,
    Ends,
    Opened,
    but,
    copied,
    done,
    expecting,
    files,
    finished,
    names,
    opened_fixture,  # noqa: F401 - fixtures are used by their names
    report,
    reported,
    shown,
    started,
    states,
)
from integration.fts_bench import Bench
from integration.scripted_fts import reply

Asked = dict[str, Any]

LIGHT = ("file_id", "file_state")


async def two_open(here: Bench, count: int = 450) -> tuple[Job, Asked, Asked]:
    """A job with its second and its third transfer at FTS, and what each of them was asked."""
    job, _ = await copied(here, await reported(here, count))
    job, second = await started(here, job)
    job, third = await another(here, job)
    assert phase(job) is Phase.COPYING
    return job, second, third


async def another(here: Bench, job: Job) -> tuple[Job, Asked]:
    """The job after more of its files were handed over."""
    return await started(here, job, here.transfers.start_another)


async def ended(
    here: Bench, job: Job, number: int, asked: Asked, ends: Ends = finished, state: str = "FINISHED"
) -> Job:
    """The job when the transfer of this place among the open ones is over."""
    transfer = (await open_transfers(here.store, job))[number]
    shown(here, transfer.fts_jobid, asked, ends, state)
    details = await here.endpoint.details([transfer.fts_jobid])
    await here.settlement.settle(job, transfer, details[transfer.fts_jobid])
    return await here.now(job)


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


class Looking:
    """Watches what FTS has of a job with two open transfers, by a clock that the test sets."""

    def __init__(self, here: Bench, asked: Sequence[Asked], transfers: Sequence[OpenTransfer]):
        self._here, self._asked, self._transfers = here, [*asked], [*transfers]
        self.now = 100.0
        shortest = 5.0
        self.watching = Watching(
            here.store, here.parts.endpoints, here.endpoint, shortest, lambda: self.now
        )

    @property
    def path(self) -> str:
        return f"/jobs/{','.join(one.fts_jobid for one in self._transfers)}"

    @property
    def first(self) -> OpenTransfer:
        return self._transfers[0]

    @property
    def last(self) -> OpenTransfer:
        return self._transfers[-1]

    def add(self, asked: Asked, transfer: OpenTransfer) -> None:
        self._asked.append(asked)
        self._transfers.append(transfer)

    def forget_first(self) -> None:
        del self._asked[0], self._transfers[0]

    def shows(self, *copied: int, active: int = 8) -> None:
        """So many files of each transfer are there, the next ones are being copied."""
        answers = []
        for number, asked, transfer in zip(copied, self._asked, self._transfers, strict=True):
            urls = [one["destinations"][0].removeprefix(f"{DIRECTORY}/") for one in asked["files"]]
            states = ["FINISHED"] * number + ["ACTIVE"] * active + ["SUBMITTED"] * len(urls)
            active -= min(active, len(urls) - number)  # others are those behind
            ends = {url: {"file_state": state} for url, state in zip(urls, states, strict=False)}
            state = "FINISHED" if number == len(urls) else "ACTIVE"
            answers.append(shown(self._here, transfer.fts_jobid, asked, but(ends), state))
        self._here.server.on("GET", self.path, reply(answers))

    async def look(self, at: float) -> tuple[list[str], int]:
        """What is over at this time, and how often FTS has been asked by then."""
        self.now = at
        over = await self.watching.look()
        return list(over), len(self._here.server.calls("GET", self.path))


async def looking(here: Bench) -> tuple[Job, Looking]:
    job, second, third = await two_open(here)
    return job, Looking(here, [second, third], await open_transfers(here.store, job))


async def test_files_are_counted_while_they_are_copied(opened: Opened) -> None:
    async with opened as here:
        job, there = await looking(here)
        there.shows(50, 0)
        assert await there.look(100) == ([], 0)  # nothing can be over yet
        assert await there.look(105) == ([], 1)
        job = await here.now(job)
        assert (job.files_done, job.files_arriving) == (10, 50)
        assert (job.files_at_fts, job.files_active) == (350, 8)
        assert {call.query for call in here.server.calls("GET", there.path)} == {
            f"files={','.join(LIGHT)}"
        }


async def test_fts_is_asked_again_when_a_transfer_may_be_over(opened: Opened) -> None:
    async with opened as here:
        job, there = await looking(here)
        there.shows(50, 0)
        await there.look(100)
        await there.look(105)  # ten files a second, but after five seconds it is early to say
        there.shows(100, 0)
        assert await there.look(107) == ([], 1)
        assert await there.look(110) == ([], 2)
        there.shows(180, 0)
        assert await there.look(117) == ([], 2)
        assert await there.look(120) == ([], 3)  # the last ones are there in two or three seconds
        there.shows(200, 8)
        assert await there.look(122) == ([], 3)
        (one, two) = await open_transfers(here.store, job)
        assert await there.look(125) == ([one.fts_jobid], 4)
        job = await here.now(job)
        assert job.files_arriving == 208
        assert two.ended == 0


async def test_what_became_of_a_transfer_comes_with_the_look_at_which_it_is_to_be_over(
    opened: Opened,
) -> None:
    async with opened as here:
        job, there = await looking(here)
        there.shows(50, 0)
        await there.look(100)
        await there.look(105)
        there.shows(100, 0)
        await there.look(110)
        there.shows(200, 8)
        there.now = 120.0
        here.polling.watching = there.watching
        assert await here.polling.poll_once() == 1
        fields = [call.query for call in here.server.calls("GET", there.path)]
        light, whole = f"files={','.join(LIGHT)}", f"files={','.join(FILE_FIELDS)}"
        assert fields == [light, light, whole]
        one = there.first.fts_jobid
        assert here.server.calls("GET", f"/jobs/{one}") == []
        job = await here.now(job)
        assert (phase(job), job.files_done, job.files_at_fts) == (Phase.COPYING, 210, 192)


async def test_a_transfer_behind_others_is_no_reason_to_ask(opened: Opened) -> None:
    """FTS serves the oldest files first: when they end is known from those before."""
    async with opened as here:
        job, second = await started(here, (await copied(here, await reported(here, 450)))[0])
        there = Looking(here, [second], await open_transfers(here.store, job))
        there.shows(50)
        await there.look(100)
        assert await there.look(105) == ([], 1)
        there.shows(100)
        assert await there.look(110) == ([], 2)  # ten files a second: the last one at 120
        job, third = await another(here, job)
        there.add(third, (await open_transfers(here.store, job))[1])
        there.shows(190, 0)
        assert await there.look(115) == ([], 0)
        assert await there.look(120) == ([], 1)
        there.shows(200, 40)
        assert await there.look(125) == ([there.first.fts_jobid], 2)
        await ended(here, job, 0, second)
        there.forget_first()
        there.shows(190)
        assert await there.look(135) == ([], 0)
        assert await there.look(140) == ([], 1)


async def test_a_transfer_that_has_just_begun_is_foreseen_by_those_before(opened: Opened) -> None:
    async with opened as here:
        job, second, third = await two_open(here, 250)
        there = Looking(here, [second, third], await open_transfers(here.store, job))
        there.shows(50, 0)
        await there.look(100)
        await there.look(105)
        there.shows(100, 0)
        await there.look(110)
        there.shows(200, 0)
        assert await there.look(120) == ([there.first.fts_jobid], 3)
        await ended(here, job, 0, second)
        there.forget_first()
        there.shows(40)
        assert await there.look(125) == ([there.first.fts_jobid], 1)


async def test_another_jobs_transfer_is_looked_at_soon(opened: Opened) -> None:
    """Beside one that takes hours it may be over in a moment."""
    async with opened as here:
        job, second, third = await two_open(here)
        there = Looking(here, [second, third], await open_transfers(here.store, job))
        there.shows(0, 0)
        for now in range(100, 160, 5):
            await there.look(now)
        there.shows(1, 0)
        assert (await there.look(170))[1] == 5  # the next one is due at 200
        theirs, asked = await started(here, await other_users(here, "other", 60))
        there.add(asked, (await open_transfers(here.store, theirs))[0])
        there.shows(1, 0, 10)
        assert await there.look(175) == ([], 0)
        assert await there.look(180) == ([there.last.fts_jobid], 1)


async def test_where_nothing_moves_fts_is_asked_less_and_less(opened: Opened) -> None:
    async with opened as here:
        _, there = await looking(here)
        there.shows(0, 0, active=0)
        asked_at, before = [], 0
        for second in range(100, 200, 5):
            _, times = await there.look(second)
            if times > before:
                asked_at.append(second)
            before = times
        assert asked_at == [105, 110, 120, 140, 170]


async def test_one_answer_that_can_not_be_keeps_no_other_from_being_seen(opened: Opened) -> None:
    async with opened as here:
        job, there = await looking(here)
        one, two = await open_transfers(here.store, job)
        there.shows(200, 30)
        many = {"job_id": one.fts_jobid, "files": [{"file_state": "FINISHED"}] * 201}
        good = {"job_id": two.fts_jobid, "files": [{"file_state": "FINISHED"}] * 30}
        here.server.on("GET", there.path, reply([many, good]))
        await there.look(100)
        assert await there.look(105) == ([], 1)
        assert (await here.now(job)).files_arriving == 30


async def test_looks_keep_to_a_budget(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WATCHED_BYTES", 500)
    async with opened as here:
        _, there = await looking(here)
        there.shows(10, 0)
        await there.look(100)
        await there.look(105)
        there.shows(200, 200)
        assert (await there.look(145))[1] == 1  # two transfers of 200 files: more than 20,000 bytes
        assert (await there.look(205))[1] == 2


async def test_what_is_over_is_settled_by_the_polling(opened: Opened) -> None:
    async with opened as here:
        job, there = await looking(here)
        there.shows(200, 0)
        here.polling.watching = there.watching
        await here.polling.poll_once()
        there.now += 5
        assert await here.polling.poll_once() == 1
        job = await here.now(job)
        assert (phase(job), job.files_done, job.files_at_fts) == (Phase.COPYING, 210, 200)


async def other_users(here: Bench, name: str, count: int) -> Job:
    job = await admitted(here.store, submitter=f"/CN={name}")
    listed = report(await expecting(here, job), names(count), path=f"/staging/{name}")
    return await here.parts.staging.report(listed)


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
        turn = here.polling.turn
        assert await here.store.give_turns(turn) == 0
        mine = await ended(here, mine, 0, second)
        assert await here.store.give_turns(turn) == 2  # both fit: 200 + 50 + 40
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


async def test_what_another_fts_has_is_in_nobodys_way(opened: Opened) -> None:
    """It may be out, for days."""
    async with opened as here:
        mine, _, _ = await two_open(here)
        sql = "UPDATE jobs SET fts_endpoint = 'fts2' WHERE job_id = %s"
        await here.parts.database.execute(sql, mine.job_id)
        theirs, _ = await copied(here, await other_users(here, "other", 60))
        theirs, asked = await started(here, theirs)
        assert (len(asked["files"]), theirs.turn_since) == (50, None)


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

"""How far transfers of many files are, seen at few calls to FTS."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.samples import open_transfers

from deliv.delivery import watch
from deliv.delivery.watch import Watching
from deliv.gateways.fts.answers import FILE_FIELDS
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.transfer import OpenTransfer
from integration.files_steps import (
    DIRECTORY,
    Opened,
    Posted,
    another,
    but,
    copied,
    ended,
    opened_fixture,  # noqa: F401 - fixtures are used by their names
    other_users,
    reported,
    shown,
    started,
    two_open,
)
from integration.fts_bench import Bench
from integration.scripted_fts import reply

LIGHT = ("file_id", "file_state")


class Looking:
    """Watches what FTS has of a job with two open transfers, by a clock that the test sets."""

    def __init__(self, here: Bench, asked: Sequence[Posted], transfers: Sequence[OpenTransfer]):
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

    def add(self, asked: Posted, transfer: OpenTransfer) -> None:
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

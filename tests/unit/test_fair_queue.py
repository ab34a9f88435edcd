"""Whose turn it is at the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps

import pytest

from deliv.db.fair_queue import OWN_WORK, FairQueue
from deliv.errors import Saturated

LONG = 60.0  # seconds; nothing here waits for so long


class Line:
    """A queue, and in which order its places were taken."""

    def __init__(self, places: int = 8, waiting: int = 100, **shares: int) -> None:
        shares = {"per_caller": 2, "for_callers": 6} | shares
        self.queue = FairQueue(places, waiting=waiting, **shares)
        self.served: list[str] = []
        self.failed: list[Saturated] = []

    async def come(self, *callers: str, timeout: float = LONG) -> list[asyncio.Task[None]]:
        """Each asks for a place, in this order; returns when nothing more happens by itself."""
        tasks = [asyncio.create_task(self._come(caller, timeout)) for caller in callers]
        await settled()
        return tasks

    async def _come(self, caller: str, timeout: float) -> None:
        try:
            await self.queue.acquire(caller, timeout)
        except Saturated as error:
            self.failed.append(error)
        else:
            self.served.append(caller)

    async def release(self, *callers: str) -> list[str]:
        """Whom the places go to."""
        before = len(self.served)
        for caller in callers:
            self.queue.release(caller)
            await settled()
        return self.served[before:]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def on_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        async def body() -> None:
            await test()

        asyncio.run(body())

    return run


@on_a_loop
async def test_a_caller_has_a_share_and_no_more() -> None:
    line = Line()
    await line.come(*"aaaaa")
    assert line.served == ["a", "a"]
    assert await line.release("a") == ["a"]


@on_a_loop
async def test_others_do_not_wait_behind_a_crowd_of_one() -> None:
    line = Line()
    await line.come(*"aaaaaaaaaa", "b", "c")
    assert line.served == ["a", "a", "b", "c"]


@on_a_loop
async def test_own_work_has_places_that_callers_can_not_take() -> None:
    line = Line()
    await line.come(*"aabbccdd")
    assert line.served == [*"aabbcc"]
    await line.come(OWN_WORK, OWN_WORK, OWN_WORK)
    assert line.served[6:] == [OWN_WORK, OWN_WORK]
    assert await line.release("a") == ["d"]


@on_a_loop
async def test_own_work_may_have_every_place_and_gives_callers_their_turn() -> None:
    line = Line(places=4, for_callers=3)
    await line.come(*[OWN_WORK] * 7, "a")
    assert line.served == [OWN_WORK] * 4
    assert await line.release(*[OWN_WORK] * 3) == [OWN_WORK, "a", OWN_WORK]


@on_a_loop
async def test_callers_are_served_in_turns() -> None:
    line = Line(places=2, per_caller=1, for_callers=1)
    await line.come(*"aaaabbc")
    assert line.served == ["a"]
    assert await line.release(*"aabcaba") == [*"abcaba"]


@on_a_loop
async def test_a_caller_with_all_of_its_share_is_passed_over_and_keeps_its_turn() -> None:
    line = Line(places=8, per_caller=2, for_callers=3)
    await line.come(*"aab", *"ac")
    assert line.served == [*"aab"]
    assert await line.release("b") == ["c"]
    assert await line.release("a") == ["a"]


@on_a_loop
async def test_a_single_place_is_for_everybody() -> None:
    line = Line(places=1, per_caller=1, for_callers=1)
    await line.come("a", OWN_WORK, "b")
    assert await line.release("a", OWN_WORK) == [OWN_WORK, "b"]


@on_a_loop
async def test_a_crowd_fills_its_own_queue_only() -> None:
    line = Line(waiting=3)
    await line.come(*"aaaaaa")
    assert [str(error) for error in line.failed] == [
        "too many calls of one caller wait for the database"
    ]
    await line.come(*"bbbbb", *[OWN_WORK] * 4)
    assert len(line.failed) == 1
    assert await line.release("a", "a", "a") == [*"aaa"]


@on_a_loop
async def test_who_waits_too_long_is_told_and_leaves_the_queue() -> None:
    line = Line(waiting=1)
    await line.come(*"aa")
    (late,) = await line.come("a", timeout=0)
    await late
    assert [str(error) for error in line.failed] == ["the call waited too long for the database"]
    await line.come("a")
    assert await line.release("a") == ["a"]


@on_a_loop
async def test_who_was_cancelled_leaves_the_queue() -> None:
    line = Line(waiting=2)
    await line.come(*"aa")
    first, _ = await line.come(*"aa")
    first.cancel()
    await settled()
    assert first.cancelled()
    await line.come("a")
    assert not line.failed
    assert await line.release("a", "a") == [*"aa"]


@on_a_loop
async def test_a_place_that_comes_with_the_cancelling_goes_to_the_next() -> None:
    for release_first in (True, False):
        line = Line()
        await line.come(*"aa")
        first, _ = await line.come(*"aa")
        steps = [lambda line=line: line.queue.release("a"), first.cancel]
        for step in steps if release_first else reversed(steps):
            step()
        await settled()
        assert first.cancelled()
        assert line.served == [*"aaa"]
        assert await line.release("a", "a") == []
        await line.come(*"aa")
        assert line.served == [*"aaaaa"]


@pytest.mark.parametrize("crowd", [1, 50])
def test_a_turn_comes_after_one_of_each_other_caller(crowd: int) -> None:
    """However many requests the others have queued."""

    async def run() -> None:
        line = Line(places=2, per_caller=1, for_callers=1)
        await line.come(*"abc" * crowd, "x")
        order, holder = line.served[:], line.served[0]
        while "x" not in order:
            (holder,) = await line.release(holder)
            order.append(holder)
        assert order[:-1] in ([*"abc"], [*"abca"])

    asyncio.run(run())

"""Periodic work at a stop: whoever hands the leases on must not take one again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from deliv.tasks.periodic import Periodic


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    return lambda: asyncio.run(test())


class Work:
    """Work under a lease, as slow as the test wants it."""

    def __init__(self) -> None:
        self.asked, self.done = 0, 0
        self.going_on = asyncio.Event()

    async def held(self) -> bool:
        self.asked += 1
        return True

    async def body(self) -> None:
        await self.going_on.wait()
        self.done += 1


@on_a_loop
async def test_a_run_under_way_is_waited_for_and_none_follows() -> None:
    work = Work()
    periodic = Periodic("work", 60, work.body, work.held)
    running = asyncio.create_task(periodic.run())
    await asyncio.sleep(0)
    periodic.stop()
    leaving = asyncio.create_task(periodic.let_go())
    await periodic.run()  # would follow the present one
    assert not leaving.done()
    work.going_on.set()
    await leaving
    await running
    assert (work.asked, work.done) == (1, 1)


@on_a_loop
async def test_no_lease_is_taken_after_the_stop() -> None:
    work = Work()
    periodic = Periodic("work", 60, work.body, work.held)
    periodic.stop()
    await periodic.run()
    await periodic.let_go()
    assert (work.asked, work.done) == (0, 0)


@on_a_loop
async def test_what_needs_no_lease_goes_on_and_nobody_waits_for_it() -> None:
    work = Work()
    periodic = Periodic("work", 60, work.body)
    periodic.stop()
    running = asyncio.create_task(periodic.run())
    await asyncio.sleep(0)
    await periodic.let_go()
    work.going_on.set()
    await running
    assert work.done == 1

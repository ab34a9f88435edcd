"""Periodic work: by which clock it runs, and at a stop: whoever hands the leases on takes none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from deliv.errors import Unreachable
from deliv.tasks.periodic import Periodic

SUCCESS = "deliv_periodic_last_success_timestamp_seconds"

DEADLINE = 60  # seconds, for a busy machine


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


@pytest.mark.parametrize("step", [-180, 180])
def test_a_step_of_the_wall_clock_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """It does not stand still for as long as the clock stepped back."""
    wall_clock = time.time

    async def run() -> None:
        runs: asyncio.Queue[None] = asyncio.Queue()
        periodic = Periodic("work", 0.01, lambda: runs.put(None))
        periodic.start()
        async with asyncio.timeout(DEADLINE):
            await runs.get()
            monkeypatch.setattr(time, "time", lambda: wall_clock() + step)
            for _ in range(3):
                await runs.get()
        periodic.stop()

    asyncio.run(run())


@on_a_loop
async def test_a_good_run_is_shown_only_where_there_was_one() -> None:
    """A time of 0 would look like work that has stood still since 1970."""
    held = False

    async def holds() -> bool:
        return held

    periodic = Periodic("shown", 60, Work().held, holds)
    assert shown("shown") is None
    await periodic.run()
    assert shown("shown") is None
    held, before = True, time.time()
    await periodic.run()
    after = shown("shown")
    assert after is not None
    assert before <= after <= time.time()
    held = False
    await periodic.run()
    assert shown("shown") == after


def shown(name: str) -> float | None:
    return REGISTRY.get_sample_value(SUCCESS, {"name": name})


@on_a_loop
async def test_an_outage_is_told_when_it_begins_and_when_it_ends() -> None:
    """Not at each run: there are a thousand of them in an hour."""
    out = False

    async def body() -> None:
        if out:
            raise Unreachable("away", sent=False)

    periodic = Periodic("failing", 60, body)
    with capture_logs() as lines:
        for out in (False, True, True, True, False, False, True):  # noqa: B007 - body reads it
            await periodic.run()
    said = [(line["log_level"], line["event"]) for line in lines if line["log_level"] != "debug"]
    assert said == [
        ("warning", "periodic work waits"),
        ("info", "periodic work goes on"),
        ("warning", "periodic work waits"),
    ]
    assert [line["waited"] >= 0 for line in lines if "waited" in line] == [True]
    failures = REGISTRY.get_sample_value("deliv_periodic_failures_total", {"name": "failing"})
    assert failures == 4

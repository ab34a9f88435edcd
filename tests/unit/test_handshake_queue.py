"""Which handshake comes next: by the CPU time that its address has used."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from deliv.http.connections.handshakes import THREADS, HandshakeQueue

ENOUGH = 60.0  # seconds until a test is given up


def looped(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    return lambda: asyncio.run(test())


class Handshake:
    """One step, which a thread makes when `go` is set. `log` has who began, in order."""

    def __init__(self, log: list[str], host: str, name: str = "", *, stuck: bool = False) -> None:
        self.host, self.name = host, name or host
        self.go, self.ended = threading.Event(), asyncio.Event()
        self.error: OSError | None = None
        self._log = log
        if not stuck:
            self.go.set()

    def begin_step(self) -> None:
        self._log.append(self.name)

    def step(self) -> None:
        assert self.go.wait(ENOUGH)

    def end_step(self, error: OSError | None) -> None:
        self.error = error
        self.ended.set()


@asynccontextmanager
async def handshake_queue(
    per_second: float = 0.0, burst: float = 1000.0
) -> AsyncIterator[HandshakeQueue]:
    queue = HandshakeQueue(per_second, burst)
    try:
        yield queue
    finally:
        queue.close()


async def ended(*handshakes: Handshake) -> None:
    for one in handshakes:
        await asyncio.wait_for(one.ended.wait(), ENOUGH)


@looped
async def test_the_loop_goes_on_meanwhile() -> None:
    log: list[str] = []
    async with handshake_queue() as queue:
        stuck = Handshake(log, "a", stuck=True)
        queue.append(stuck)
        await asyncio.sleep(0)
        assert not stuck.ended.is_set()
        stuck.go.set()
        await ended(stuck)


@looped
async def test_the_address_that_used_least_comes_first() -> None:
    log: list[str] = []
    async with handshake_queue() as queue:
        first = [Handshake(log, "x", stuck=True) for _ in range(THREADS)]
        for one in first:
            queue.append(one)
        for host, seconds in (("much", 3.0), ("some", 2.0), ("little", 1.0)):
            queue.charge(host, seconds)
        waiting = [Handshake(log, host) for host in ("little", "much", "none", "some")]
        for one in waiting:
            queue.append(one)
        first[0].go.set()
        await ended(*waiting)
        first[1].go.set()
        await ended(*first)
    assert log == ["x", "x", "none", "little", "some", "much"]


@looped
async def test_the_cpu_time_of_a_step_is_charged_to_its_host() -> None:
    class Costly(Handshake):
        def step(self) -> None:
            began = time.thread_time()
            while time.thread_time() == began:
                continue

    log: list[str] = []
    async with handshake_queue() as queue:
        taken = Costly(log, "costly")
        queue.append(taken)
        await ended(taken)
        first = [Handshake(log, "x", stuck=True) for _ in range(THREADS)]
        other, costly = Handshake(log, "other"), Handshake(log, "costly")
        for one in (*first, other, costly):  # had both taken the same, the later would come first
            queue.append(one)
        for one in first:
            one.go.set()
        await ended(*first, other, costly)
    assert log == ["costly", "x", "x", "other", "costly"]


@looped
async def test_of_one_host_the_newest_comes_first() -> None:
    log: list[str] = []
    async with handshake_queue() as queue:
        first = [Handshake(log, "x", stuck=True) for _ in range(THREADS)]
        waiting = [Handshake(log, "h", name) for name in "123"]
        for one in (*first, *waiting):
            queue.append(one)
        for one in first:
            one.go.set()
        await ended(*waiting)
    assert log == ["x", "x", "3", "2", "1"]


@looped
async def test_one_thread_is_kept_from_addresses_over_their_budget() -> None:
    """Twelve hosts with a step each that does not end, and one more host."""
    log: list[str] = []
    async with handshake_queue() as queue:
        costly = [Handshake(log, f"costly {number}", stuck=True) for number in range(12)]
        for one in costly:
            queue.charge(one.host, math.inf)
        for one in costly:
            queue.append(one)
        other = Handshake(log, "other")
        queue.append(other)
        await ended(other)
        assert log == ["costly 0", "other"]
        for one in costly:
            one.go.set()
        await ended(*costly)


@looped
async def test_none_is_refused() -> None:
    """Behind a load balancer all have one address, and it has nothing left."""
    log: list[str] = []
    async with handshake_queue(burst=0.0) as queue:
        all_of_them = [Handshake(log, "balancer", str(number)) for number in range(50)]
        for one in all_of_them:
            queue.append(one)
        await ended(*all_of_them)
    assert sorted(log) == sorted(one.name for one in all_of_them)


@looped
async def test_a_removed_handshake_is_not_started() -> None:
    log: list[str] = []
    async with handshake_queue() as queue:
        first = [Handshake(log, "x", stuck=True) for _ in range(THREADS)]
        gone, there = Handshake(log, "gone"), Handshake(log, "there")
        for one in (*first, gone, there):
            queue.append(one)
        queue.remove(gone)
        queue.remove(gone)
        for one in first:
            one.go.set()
        await ended(there)
    assert log == ["x", "x", "there"]


@looped
async def test_a_step_that_fails() -> None:
    class Failing(Handshake):
        def step(self) -> None:
            raise ConnectionResetError("gone")

    async with handshake_queue() as queue:
        failing = Failing([], "h")
        queue.append(failing)
        await ended(failing)
    assert isinstance(failing.error, ConnectionResetError)

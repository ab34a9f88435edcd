"""The queue of TLS handshakes, ordered by the CPU time that each client address has used.

What a handshake costs is known only when it is over: OpenSSL verifies the chain in one call,
whatever keys are in it. So each step runs on a thread while the event loop goes on, its CPU time is
charged to the client's address, and the address with the largest budget left is served first.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from deliv.ops import metrics
from deliv.ops.token_buckets import TokenBuckets

THREADS = 2


class Handshake(Protocol):
    """`host` is the network address (a neighbourhood, see ops/addresses) that is charged for it."""

    host: str

    def begin_step(self) -> None: ...

    def step(self) -> None:
        """On a thread: as far as the client's data allows; OSError as from `do_handshake`."""

    def end_step(self, error: OSError | None) -> None: ...


class HandshakeQueue:
    """Handshakes that wait for a step of ours, and those whose step is running.

    A host may use `per_second` seconds of CPU time each second, `burst` after a rest. A host that
    has used more is not refused: it is served after the others, and one of the threads is kept for
    those. While nothing else waits it gets all threads but one; behind a load balancer there is
    just one host. Of one host the newest comes first, as the oldest may have disconnected.
    """

    def __init__(self, per_second: float, burst: float) -> None:
        self._budgets = TokenBuckets(per_second, burst)
        self._threads = ThreadPoolExecutor(THREADS, "handshake")
        self._waiting: dict[str, dict[Handshake, None]] = {}
        self._running = 0

    def append(self, handshake: Handshake) -> None:
        self._waiting.setdefault(handshake.host, {})[handshake] = None
        self._start_steps()

    def remove(self, handshake: Handshake) -> None:
        """It does not wait any more. Idempotent."""
        own = self._waiting.get(handshake.host, {})
        own.pop(handshake, None)
        if not own:
            self._waiting.pop(handshake.host, None)

    def charge(self, host: str, seconds: float) -> None:
        """Take CPU time from a host's budget, which falls to minus `burst` at most."""
        self._budgets.spend(host, seconds)

    def close(self) -> None:
        """Wait for the steps that are running; nothing may be appended any more."""
        self._threads.shutdown()

    def _start_steps(self) -> None:
        while self._waiting and self._running < THREADS:
            host = max(reversed(self._waiting), key=self._budgets.left)
            if self._running == THREADS - 1 and self._budgets.left(host) <= 0:
                return
            handshake = next(reversed(self._waiting[host]))
            self.remove(handshake)
            self._running += 1
            handshake.begin_step()
            done = asyncio.get_running_loop().run_in_executor(self._threads, timed_step, handshake)
            done.add_done_callback(partial(self._finish_step, handshake))

    def _finish_step(
        self, handshake: Handshake, done: asyncio.Future[tuple[OSError | None, float]]
    ) -> None:
        error, seconds = done.result()
        self._running -= 1
        self.charge(handshake.host, seconds)
        metrics.HANDSHAKE_SECONDS.inc(seconds)
        handshake.end_step(error)
        self._start_steps()


def timed_step(handshake: Handshake) -> tuple[OSError | None, float]:
    """What the step raised, and the CPU seconds that it took."""
    began = time.thread_time()
    try:
        handshake.step()
    except OSError as error:
        return error, time.thread_time() - began
    return None, time.thread_time() - began

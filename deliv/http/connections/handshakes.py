"""Whose TLS handshake goes on next, by the CPU time that those of its address have taken.

What a handshake costs is known only when it is over: OpenSSL verifies the chain in one go, whatever
keys are in it. So each step runs on a thread, which the event loop does not wait for, its CPU time
is charged to the address, and the address that has most of its budget left is served first.
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
    """`host` is the neighbourhood that pays for it."""

    host: str

    def begin_step(self) -> None: ...

    def step(self) -> None:
        """Go on as far as what the peer has sent allows; OSError as from `do_handshake`."""

    def end_step(self, error: OSError | None) -> None: ...


class HandshakeQueue:
    """Handshakes that wait for us, and those that are being gone on with.

    A host may use `per_second` seconds of CPU time each second, `burst` after a rest. One that has
    used more is not refused, it only comes after the others, and one of the threads is kept for
    those. So while nothing else waits, it gets all that there is: behind a load balancer there is
    just one host. Of one host the newest comes first: who came long ago may have left.
    """

    def __init__(self, per_second: float, burst: float) -> None:
        self._budgets = TokenBuckets(per_second, burst)
        self._threads = ThreadPoolExecutor(THREADS, "handshake")
        self._waiting: dict[str, dict[Handshake, None]] = {}
        self._running = 0

    def append(self, handshake: Handshake) -> None:
        self._waiting.setdefault(handshake.host, {})[handshake] = None
        self._fill()

    def remove(self, handshake: Handshake) -> None:
        """It does not wait any more; doing this twice does no harm."""
        own = self._waiting.get(handshake.host, {})
        own.pop(handshake, None)
        if not own:
            self._waiting.pop(handshake.host, None)

    def spend(self, host: str, seconds: float) -> None:
        """Charge a host, at most with what brings it to a debt of `burst`."""
        self._budgets.spend(host, seconds)

    def close(self) -> None:
        """Wait for the steps that are being made; nothing may be appended any more."""
        self._threads.shutdown()

    def _fill(self) -> None:
        while self._waiting and self._running < THREADS:
            host = max(reversed(self._waiting), key=self._budgets.left)
            if self._running == THREADS - 1 and self._budgets.left(host) <= 0:
                return
            handshake = next(reversed(self._waiting[host]))
            self.remove(handshake)
            self._start(handshake)

    def _start(self, handshake: Handshake) -> None:
        self._running += 1
        handshake.begin_step()
        done = asyncio.get_running_loop().run_in_executor(self._threads, _timed, handshake)
        done.add_done_callback(partial(self._ended, handshake))

    def _ended(
        self, handshake: Handshake, done: asyncio.Future[tuple[OSError | None, float]]
    ) -> None:
        error, seconds = done.result()
        self._running -= 1
        self.spend(handshake.host, seconds)
        metrics.HANDSHAKE_SECONDS.inc(seconds)
        handshake.end_step(error)
        self._fill()


def _timed(handshake: Handshake) -> tuple[OSError | None, float]:
    """What a step raised, and the CPU time that it took."""
    began = time.thread_time()
    try:
        handshake.step()
    except OSError as error:
        return error, time.thread_time() - began
    return None, time.thread_time() - began

"""One piece of periodic work: run on a timer, by one instance at a time, failures counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from tornado.ioloop import PeriodicCallback

from deliv.errors import LostRace, Unavailable
from deliv.ops import metrics

log = structlog.get_logger()

Body = Callable[[], Awaitable[object]]


class Periodic:
    """Runs `body` every `every` seconds, and at once by `run`; runs never overlap.

    `holds`: whether this instance has the lease for it; None: every instance runs it.
    """

    def __init__(
        self,
        name: str,
        every: float,
        body: Body,
        holds: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.name = name
        self._body = body
        self._holds = holds
        self._timer = PeriodicCallback(self.run, every * 1000, jitter=0.1)
        self._since: float | None = None
        self._again = self._stopped = False
        self._idle = asyncio.Event()
        self._idle.set()
        metrics.PERIODIC_FAILURES.labels(name=name)
        metrics.PERIODIC_SUCCESS.labels(name=name)

    def start(self) -> None:
        self._timer.start()

    def stop(self) -> None:
        """No lease is taken any more; a run that has one goes on."""
        self._timer.stop()
        self._stopped = True

    async def let_go(self) -> None:
        """Returns when there is no run, after `stop`, that may still take or need the lease."""
        if self._holds is not None:
            await self._idle.wait()

    async def run(self) -> None:
        """One run now; while one is under way another follows it instead."""
        self._again = True
        if self._since is not None:
            return
        self._idle.clear()
        try:
            while self._again:
                self._again, self._since = False, time.monotonic()
                try:
                    if self._holds is None or (not self._stopped and await self._holds()):
                        await self._body()
                except LostRace as error:
                    log.info("periodic work goes on elsewhere", name=self.name, reason=str(error))
                except Unavailable as error:
                    metrics.PERIODIC_FAILURES.labels(name=self.name).inc()
                    log.warning("periodic work waits", name=self.name, reason=str(error))
                except Exception:  # the timer would swallow it; it is counted and logged here
                    metrics.PERIODIC_FAILURES.labels(name=self.name).inc()
                    log.exception("periodic work failed", name=self.name)
                else:
                    metrics.PERIODIC_SUCCESS.labels(name=self.name).set(time.time())
        finally:
            self._since = None
            self._idle.set()

    def running_for(self) -> float:
        """Seconds that the present run has taken; 0 between runs."""
        return 0.0 if self._since is None else time.monotonic() - self._since

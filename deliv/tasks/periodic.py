"""One piece of periodic work: run on a timer, by one instance at a time, failures counted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import structlog

from deliv.errors import LostRace, Unavailable
from deliv.ops import metrics

log = structlog.get_logger()

Body = Callable[[], Awaitable[object]]

JITTER = 0.1  # of the period: instances that were started together do not stay together


class Periodic:
    """Runs `body` every `every` seconds, and at once by `run`; runs never overlap.

    The seconds are those of the monotonic clock. Tornado's PeriodicCallback goes by the wall clock:
    after a step back it does not run for as long as the step.

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
        self._every = every
        self._timer: asyncio.TimerHandle | None = None
        self._timed: asyncio.Task[None] | None = None
        self._since: float | None = None
        self._waiting_since: float | None = None
        self._again = self._stopped = False
        self._idle = asyncio.Event()
        self._idle.set()
        metrics.PERIODIC_FAILURES.labels(name=name)

    def start(self) -> None:
        """The first run comes after one period."""
        loop = asyncio.get_running_loop()
        pause = self._every * random.uniform(1 - JITTER / 2, 1 + JITTER / 2)  # noqa: S311 - no secret
        self._timer = loop.call_later(pause, self._tick)

    def stop(self) -> None:
        """No lease is taken any more; a run that has one goes on."""
        if self._timer is not None:
            self._timer.cancel()
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
                        metrics.PERIODIC_SUCCESS.labels(name=self.name).set(time.time())
                except LostRace as error:
                    log.info("periodic work goes on elsewhere", name=self.name, reason=str(error))
                except Unavailable as error:
                    metrics.PERIODIC_FAILURES.labels(name=self.name).inc()
                    self._log_waiting(str(error))
                except Exception:  # the timer would swallow it; it is counted and logged here
                    metrics.PERIODIC_FAILURES.labels(name=self.name).inc()
                    log.exception("periodic work failed", name=self.name)
                else:
                    self._log_waited()
        finally:
            self._since = None
            self._idle.set()

    def _tick(self) -> None:
        self.start()
        if self._since is None:
            self._timed = asyncio.get_running_loop().create_task(self.run())
        else:
            self._again = True

    def _log_waiting(self, reason: str) -> None:
        """Once for each outage; the others of it only at the level debug."""
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
            log.warning("periodic work waits", name=self.name, reason=reason)
        else:
            log.debug("periodic work still waits", name=self.name, reason=reason)

    def _log_waited(self) -> None:
        if self._waiting_since is not None:
            seconds = round(time.monotonic() - self._waiting_since, 1)
            log.info("periodic work goes on", name=self.name, waited=seconds)
            self._waiting_since = None

    def running_for(self) -> float:
        """Seconds that the present run has taken; 0 between runs."""
        return 0.0 if self._since is None else time.monotonic() - self._since

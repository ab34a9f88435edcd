"""A circuit breaker: stops calling a server that keeps failing, tries again after a rest. Pure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import StrEnum

from deliv.model.backoff import Backoff

REST = Backoff(1, 5)


class BreakerState(StrEnum):
    CLOSED = "closed"  # calls go through
    OPEN = "open"  # calls are refused until the rest is over
    HALF_OPEN = "half-open"  # one call tries whether the server is back


class Breaker:
    """Opens after `threshold` failures in a row, for `rest` seconds, doubled with each bad trial.

    Jobs that need the server wait meanwhile, so the rests are short: one call in some seconds harms
    no server, and the waiting jobs go on soon after it is back.
    """

    def __init__(
        self,
        *,
        threshold: int = 3,
        rest: Backoff = REST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = threshold
        self._rest = rest
        self._clock = clock
        self._failures = 0
        self._trials = 0  # bad ones, since it opened
        self._until = 0.0
        self._answered: float | None = None
        self.state = BreakerState.CLOSED
        self.reason = ""

    @property
    def ready(self) -> bool:
        """Whether a call would be let through now."""
        return self.state is BreakerState.CLOSED or self._clock() >= self._until

    def is_in(self, state: BreakerState) -> float:
        """1 or 0, as a metric of the state wants it."""
        return float(self.state is state)

    @property
    def wait(self) -> float:
        """Seconds until the next call may be tried; 0 when it may be now."""
        return 0.0 if self.ready else self._until - self._clock()

    @property
    def silent_for(self) -> float:
        """Seconds since the server last answered."""
        return math.inf if self._answered is None else self._clock() - self._answered

    @property
    def failing(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    def enter(self) -> bool:
        """Asked before a call. True: make it and report how it went; False: do not make it."""
        if not self.ready:
            return False
        if self.state is not BreakerState.CLOSED:
            self.state = BreakerState.HALF_OPEN
            self._until = self._clock() + self._rest.pause(
                self._trials
            )  # a trial that is never reported ends as well
        return True

    def succeeded(self) -> None:
        self._answered = self._clock()
        self.state = BreakerState.CLOSED
        self.reason = ""
        self._failures = self._trials = 0

    def failed(self, reason: str = "") -> None:
        self._failures += 1
        self.reason = reason
        if self.state is BreakerState.HALF_OPEN:
            self._trials += 1
            self._open()
        elif self.state is BreakerState.CLOSED and self._failures >= self._threshold:
            self._open()

    def _open(self) -> None:
        self.state = BreakerState.OPEN
        self._until = self._clock() + self._rest.pause(self._trials)

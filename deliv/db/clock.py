"""The database's clock, beside this process's own: whether a step ahead is to be believed.

What ends by the time can't be begun again: a deadline, a key that is wiped. When the database's
clock steps ahead, by hand or with a failover, the time goes on as if it had not, until the clock
has proved right: the clock of this machine, as it was when the process began, says the same; or it
has stayed so for a time. A step back is believed at once, since nothing ends by it; what it would
hold up is in store/clock.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from deliv.ops import metrics

log = structlog.get_logger()

STEP = 5.0  # seconds by which a clock may be ahead without a doubt
LONG_AGO = datetime(1970, 1, 2, tzinfo=UTC)


def monotonic() -> float:
    """Seconds, those of a suspended machine included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Doubt:
    """A step ahead to `ahead` seconds before the monotonic clock, first seen at `since` of that."""

    ahead: float
    since: float


class DatabaseClock:
    """A step ahead is believed after `settling` seconds. Threads share it.

    `stepped_at`: the database's time when a step ahead of it was seen; LONG_AGO when there was none
    or it has been taken back.
    """

    def __init__(
        self,
        settling: float,
        monotonic: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settling = settling
        self._monotonic = monotonic
        # How many seconds clocks are before the monotonic one: this machine's, and the database's
        # as far as it is believed.
        self._own = self._believed = wall() - monotonic()
        self._doubt: Doubt | None = None
        self._lock = threading.Lock()
        self.stepped_at = LONG_AGO

    def believed(self, read: Callable[[], datetime]) -> datetime:
        """What `read` says is the database's time; without a step ahead that is doubted."""
        before = self._monotonic()
        now = read()
        after = self._monotonic()
        # It was read some time between; a process may be frozen there.
        least, most = now.timestamp() - after, now.timestamp() - before
        with self._lock:
            if now < self.stepped_at - timedelta(seconds=STEP):
                self.stepped_at = LONG_AGO
            if least <= self._believed + STEP:
                if self._doubt:
                    log.info("the database's clock is right again")
                self._doubt = None
                self._believed = min(max(self._believed, least), most)
                return now
            doubt = self._doubt
            if doubt is None or least > doubt.ahead + STEP or most < doubt.ahead - STEP:
                doubt = self._doubt = Doubt(least, after)
                self.stepped_at = now
                metrics.CLOCK_STEPS.labels(direction="ahead").inc()
                seconds = round(least - self._believed, 1)
                log.warning("the database's clock has stepped ahead", seconds=seconds)
            if least <= self._own + STEP or after - doubt.since >= self._settling:
                log.info("the database's clock is believed")
                self._doubt, self._believed = None, least
                return now
            return now - timedelta(seconds=least - self._believed)

    def doubt(self) -> str | None:
        """What is doubted, in words."""
        doubt = self._doubt
        if doubt is None:
            return None
        ahead = doubt.ahead - self._believed
        left = max(0.0, doubt.since + self._settling - self._monotonic())
        return f"its clock has stepped ahead by {ahead:.0f} s: nothing ends by it for {left:.0f} s"

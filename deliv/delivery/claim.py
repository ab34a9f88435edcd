"""How long a worker may act on a job that it claimed: until another worker may claim it.

A process that was frozen wakes up in the middle of a step. In the database the job's version holds
it off; before a call that makes another server act it looks at the clock, which went on meanwhile.
"""

from __future__ import annotations

import math
import time
from contextvars import ContextVar

from deliv.errors import LostRace

_until: ContextVar[float] = ContextVar("until", default=math.inf)


def begin(seconds: float) -> None:
    """The job that the calling coroutine works on is its own for so long."""
    _until.set(_now() + seconds)


def check() -> None:
    """LostRace when that time is over."""
    late = _now() - _until.get()
    if late > 0:
        raise LostRace(f"too late by {late:.1f} s: another worker may have claimed the job")


def _now() -> float:
    """Seconds, those of a suspended machine included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

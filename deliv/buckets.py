"""Token buckets: how often each of many keys may do something."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 4096


class TokenBuckets:
    """A bucket for each key: `burst` tokens at most, refilled with `per_second`.

    The clock must never go back. `remembered` keys are kept at most; the one that has been away
    longest is forgotten first, and would begin anew with a full bucket.
    """

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        remembered: int = REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second, self._burst = per_second, burst
        self._remembered = remembered
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take a token: 0. When there is none, the seconds until there is one."""
        now = self._clock()
        tokens, since = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._per_second)
        taken = tokens >= 1
        self._buckets[key] = (tokens - 1 if taken else tokens), now
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - tokens) / self._per_second

    def __len__(self) -> int:
        return len(self._buckets)

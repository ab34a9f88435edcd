"""Token buckets: how often each of many keys may do something."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 4096


class TokenBuckets:
    """A bucket for each key: `burst` tokens at most, refilled with `per_second`.

    The clock must never go back. `remembered` keys are kept at most; the one that has been away
    longest is forgotten first, and would begin again with a full bucket.
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
        tokens = self.left(key)
        taken = tokens >= 1
        self._keep(key, tokens - 1 if taken else tokens)
        return 0.0 if taken else (1 - tokens) / self._per_second

    def spend(self, key: str, tokens: float) -> None:
        """Take so many tokens, be they there or not; a key owes `burst` at most."""
        self._keep(key, max(self.left(key) - tokens, -self._burst))

    def left(self, key: str) -> float:
        """The tokens that a key has; what it owes is below 0."""
        now = self._clock()
        tokens, since = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._per_second)

    def _keep(self, key: str, tokens: float) -> None:
        self._buckets[key] = tokens, self._clock()
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)

    def __len__(self) -> int:
        return len(self._buckets)

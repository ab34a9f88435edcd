"""The requests in flight: how many, whose, and on which connections."""

from __future__ import annotations

from collections import Counter

from deliv.ops import metrics


class InFlight:
    """A request is in flight until it is answered, or its connection is closed."""

    def __init__(self) -> None:
        self._streams: dict[int, object] = {}
        self._callers: dict[int, str] = {}
        self._of_caller: Counter[str] = Counter()

    def add(self, request: object, stream: object) -> None:
        self._streams[id(request)] = stream
        metrics.IN_FLIGHT.set(len(self._streams))

    def assign(self, request: object, caller: str) -> int:
        """Count the request as this caller's; how many requests the caller has in flight now."""
        self._callers[id(request)] = caller
        self._of_caller[caller] += 1
        return self._of_caller[caller]

    def remove(self, request: object) -> None:
        """Idempotent."""
        self._streams.pop(id(request), None)
        caller = self._callers.pop(id(request), None)
        if caller is not None:
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]
        metrics.IN_FLIGHT.set(len(self._streams))

    def serves(self, stream: object) -> bool:
        """Whether a request is in flight on this connection."""
        return any(one is stream for one in self._streams.values())

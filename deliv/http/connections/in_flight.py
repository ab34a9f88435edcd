"""The requests under way: how many, whose, and on which connections."""

from __future__ import annotations

from collections import Counter

from deliv.ops import metrics


class InFlight:
    """Counts the requests under way."""

    def __init__(self) -> None:
        self._streams: dict[int, object] = {}
        self._callers: dict[int, str] = {}
        self._of_caller: Counter[str] = Counter()

    def enter(self, call: object, stream: object) -> None:
        self._streams[id(call)] = stream
        metrics.IN_FLIGHT.set(len(self._streams))

    def claim(self, call: object, caller: str) -> int:
        """The request is this caller's; how many of theirs there are with it."""
        self._callers[id(call)] = caller
        self._of_caller[caller] += 1
        return self._of_caller[caller]

    def leave(self, call: object) -> None:
        """It was answered, or its connection is gone; doing this twice does no harm."""
        self._streams.pop(id(call), None)
        caller = self._callers.pop(id(call), None)
        if caller is not None:
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]
        metrics.IN_FLIGHT.set(len(self._streams))

    def serves(self, stream: object) -> bool:
        return any(one is stream for one in self._streams.values())

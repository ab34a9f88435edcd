"""Fair queueing: whose turn it is to use a place, of which there are few.

Callers are served round robin, each from a queue of its own, so that whoever asks for much waits
behind their own requests and not in front of others'.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque

from deliv.errors import Saturated

OWN_WORK = ""  # in place of a caller: the service itself


class FairQueue:
    """`places` in all: one caller holds at most `per_caller`, all callers together `for_callers`.

    The service's own work may hold any place, and has those beyond `for_callers` to itself. At most
    `waiting` requests of one caller are queued, and as many of own work. `what` is waited for.

    It belongs to one event loop: nothing of it may be called from another thread.
    """

    def __init__(
        self,
        places: int,
        *,
        per_caller: int,
        for_callers: int,
        waiting: int,
        what: str = "the database",
    ) -> None:
        self._places, self._per_caller = places, per_caller
        self._for_callers, self._waiting, self._what = for_callers, waiting, what
        self._held: Counter[str] = Counter()
        # Who waits, by caller; the first of them that may hold another place is the next one.
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def acquire(self, caller: str, timeout: float) -> None:
        """Wait for a place, at most `timeout` seconds; `release` gives it back. Saturated."""
        if self._may_hold_another(caller):
            self._held[caller] += 1
            return
        if len(self._queues.get(caller, ())) >= self._waiting:
            raise Saturated(f"too many calls of one caller wait for {self._what}")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn
        except BaseException as error:
            if turn.cancelled():
                with contextlib.suppress(KeyError, ValueError):  # `release` has passed it over
                    self._queues[caller].remove(turn)
                    self._forget_if_empty(caller)
            else:  # the place came at the same moment
                self.release(caller)
            if isinstance(error, TimeoutError):
                raise Saturated(f"the call waited too long for {self._what}") from error
            raise

    def release(self, caller: str) -> None:
        """The caller has one place less, and whoever is next takes it."""
        self._held -= Counter([caller])
        while (following := next(filter(self._may_hold_another, self._queues), None)) is not None:
            turn = self._queues[following].popleft()
            self._queues.move_to_end(following)
            self._forget_if_empty(following)
            if not turn.cancelled():
                turn.set_result(None)
                self._held[following] += 1

    def _forget_if_empty(self, caller: str) -> None:
        if not self._queues[caller]:
            del self._queues[caller]

    def _may_hold_another(self, caller: str) -> bool:
        if self._held.total() >= self._places:
            return False
        if caller == OWN_WORK:
            return True
        of_callers = self._held.total() - self._held[OWN_WORK]
        return self._held[caller] < self._per_caller and of_callers < self._for_callers

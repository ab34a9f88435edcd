"""How many connections there may be, and which of them gives way when there are too many."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from enum import StrEnum
from itertools import chain, filterfalse
from operator import attrgetter
from typing import Protocol

from deliv.ops import metrics

ASKED = 16  # of those who came first, whether they are busy: asking costs a system call


class Stage(StrEnum):
    """How far a connection has come."""

    GREETING = "greeting"  # its TLS greeting is not all there
    HANDSHAKE = "handshake"
    OPEN = "open"  # with a certificate that was verified


class LimitedConnection(Protocol):
    """A connection. `busy`: it waits for us, not for its peer.

    `unanswered`: it came to ask something and has no answer yet.
    """

    host: str

    @property
    def unanswered(self) -> bool: ...

    @property
    def busy(self) -> bool: ...

    def close(self) -> None: ...

    def shed(self) -> None:
        """Drop all that the handshake has cost, but not the connection."""


class ConnectionLimiter:
    """At most `most` connections, `per_host` of one address, `handshakes` unfinished ones.

    Whoever comes is let in as long as somebody inside can give way: who has not shown a certificate
    first, then who has no request, each time the one that has waited longest. So those who only
    hold connections can't keep others out. A handshake that gives way to another is not closed,
    just not gone on with: who is closed comes again at once, and each time costs more than to let
    them wait until their time is over.
    """

    def __init__(
        self, *, most: int, per_host: int, handshakes: int = 0, count: metrics.Connections
    ) -> None:
        self._count = count
        self._most, self._per_host, self._handshakes = most, per_host, handshakes
        self._stages: dict[Stage, OrderedDict[LimitedConnection, None]] = {
            s: OrderedDict() for s in Stage
        }
        self._hosts: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._stages.values()))

    def __iter__(self) -> Iterator[LimitedConnection]:
        for guests in self._stages.values():
            yield from guests

    def admit(self, guest: LimitedConnection) -> bool:
        """Let it in, at the first stage; False when everybody inside is being served."""
        if self._hosts[guest.host] >= self._per_host and not self._make_way(guest.host):
            return False
        if len(self) >= self._most and not self._make_way():
            return False
        self._hosts[guest.host] += 1
        self._put(guest, Stage.GREETING)
        return True

    def move(self, guest: LimitedConnection, stage: Stage) -> None:
        """It has come so far; from now on it waits, at the end of the line."""
        self._take(guest)
        self._put(guest, stage)
        unfinished = self._stages[Stage.HANDSHAKE]
        if len(unfinished) > self._handshakes:
            for oldest in filterfalse(attrgetter("busy"), unfinished):
                self._shed(oldest)
                break

    def leave(self, guest: LimitedConnection) -> None:
        """It is gone; doing this twice does no harm."""
        if self._take(guest):
            self._hosts[guest.host] -= 1
            if not self._hosts[guest.host]:
                del self._hosts[guest.host]

    def close(self, *stages: Stage) -> None:
        """Close all that stand at these stages."""
        for stage in stages:
            for guest in list(self._stages[stage]):
                self.leave(guest)
                guest.close()

    def _make_way(self, host: str | None = None) -> bool:
        for guest in self._in_order(host):
            self._close(guest)
            return True
        self._count.closed.labels(why="full").inc()
        return False

    def _in_order(self, host: str | None) -> Iterator[LimitedConnection]:
        """Who gives way, who does so first coming first."""
        every = chain(self._stages[Stage.GREETING], self._stages[Stage.HANDSHAKE])
        unproven = [guest for guest in every if host in (None, guest.host)]
        yield from (guest for guest in unproven[:ASKED] if not guest.busy)
        yield from unproven
        for guest in self._stages[Stage.OPEN]:
            if host in (None, guest.host) and not guest.busy:
                yield guest

    def _shed(self, guest: LimitedConnection) -> None:
        self._count.closed.labels(why="crowded").inc()
        self._take(guest)
        self._put(guest, Stage.GREETING)
        self._stages[Stage.GREETING].move_to_end(guest, last=False)
        guest.shed()

    def _close(self, guest: LimitedConnection) -> None:
        self._count.closed.labels(why="crowded").inc()
        self.leave(guest)
        guest.close()

    def _put(self, guest: LimitedConnection, stage: Stage) -> None:
        self._stages[stage][guest] = None
        self._count.now.labels(stage=stage.value).set(len(self._stages[stage]))

    def _take(self, guest: LimitedConnection) -> bool:
        for stage, guests in self._stages.items():
            if guest in guests:
                del guests[guest]
                self._count.now.labels(stage=stage.value).set(len(guests))
                return True
        return False

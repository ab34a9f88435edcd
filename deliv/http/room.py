"""How many connections there may be, and which of them gives way when there are too many."""

from __future__ import annotations

from collections import Counter, OrderedDict
from enum import StrEnum
from typing import Protocol

from deliv import metrics


class Stage(StrEnum):
    """How far a connection has come; those of an earlier stage give way first."""

    GREETING = "greeting"  # its TLS greeting is not all there
    HANDSHAKE = "handshake"
    OPEN = "open"  # with a certificate that was verified


class Guest(Protocol):
    """A connection. `busy`: a request of its own is being served, so that it does not give way."""

    host: str

    @property
    def busy(self) -> bool: ...

    def close(self) -> None: ...


class Room:
    """At most `most` connections, `per_host` of one address, `handshakes` unfinished ones.

    Whoever comes is let in as long as somebody waits inside: the one that has waited longest is
    closed instead. So those who only hold connections can't keep others out.
    """

    def __init__(self, *, most: int, per_host: int, handshakes: int) -> None:
        self._most, self._per_host, self._handshakes = most, per_host, handshakes
        self._stages: dict[Stage, OrderedDict[Guest, None]] = {s: OrderedDict() for s in Stage}
        self._hosts: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._stages.values()))

    def admit(self, guest: Guest) -> bool:
        """Let it in, at the first stage; False when everybody inside is being served."""
        if self._hosts[guest.host] >= self._per_host and not self._make_way(guest.host):
            return False
        if len(self) >= self._most and not self._make_way():
            return False
        self._hosts[guest.host] += 1
        self._put(guest, Stage.GREETING)
        return True

    def move(self, guest: Guest, stage: Stage) -> None:
        """It has come so far; from now on it waits, at the end of the line."""
        self._take(guest)
        self._put(guest, stage)
        unfinished = self._stages[Stage.HANDSHAKE]
        if len(unfinished) > self._handshakes:
            self._close(next(iter(unfinished)))

    def leave(self, guest: Guest) -> None:
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
        for guests in self._stages.values():
            for guest in guests:
                if host in (None, guest.host) and not guest.busy:
                    self._close(guest)
                    return True
        metrics.CONNECTIONS_CLOSED.labels(why="full").inc()
        return False

    def _close(self, guest: Guest) -> None:
        metrics.CONNECTIONS_CLOSED.labels(why="crowded").inc()
        self.leave(guest)
        guest.close()

    def _put(self, guest: Guest, stage: Stage) -> None:
        self._stages[stage][guest] = None
        metrics.CONNECTIONS.labels(stage=stage.value).set(len(self._stages[stage]))

    def _take(self, guest: Guest) -> bool:
        for stage, guests in self._stages.items():
            if guest in guests:
                del guests[guest]
                metrics.CONNECTIONS.labels(stage=stage.value).set(len(guests))
                return True
        return False

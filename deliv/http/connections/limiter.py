"""How many connections there may be, and which one is closed when there are too many."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from typing import Protocol

from deliv.ops import metrics

PROBED = 16  # of the oldest connections, whether they are busy: that costs a system call each


class Stage(StrEnum):
    """How far a connection has come."""

    GREETING = "greeting"  # its TLS ClientHello is not complete
    HANDSHAKE = "handshake"
    OPEN = "open"  # its certificate is verified


class LimitedConnection(Protocol):
    """A connection. `busy`: it waits for this process, not for its client.

    `unanswered`: it has not had an answer to what it was opened for.
    """

    host: str

    @property
    def unanswered(self) -> bool: ...

    @property
    def busy(self) -> bool: ...

    def close(self) -> None: ...

    def drop_tls(self) -> None:
        """Free all that the handshake has allocated, and keep the connection."""


class ConnectionLimiter:
    """At most `most` connections, `per_host` of one address, `handshakes` unfinished ones.

    A new connection is admitted as long as an older one can be closed for it: one without a
    verified certificate first, then one without a request, each time the one that has waited
    longest. So clients that only hold connections can't keep others out. A handshake in excess is
    stopped, but its connection is not closed: its client would reconnect at once, which costs more
    than to let it wait for its time-out.
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
        return chain.from_iterable(self._stages.values())

    def admit(self, new: LimitedConnection) -> bool:
        """Add it at the first stage; False when all others are being served."""
        if self._hosts[new.host] >= self._per_host and not self._make_space(new.host):
            return False
        if len(self) >= self._most and not self._make_space():
            return False
        self._hosts[new.host] += 1
        self._put(new, Stage.GREETING)
        return True

    def move(self, connection: LimitedConnection, stage: Stage) -> None:
        """It has reached this stage; its waiting time starts again."""
        self._take(connection)
        self._put(connection, stage)
        unfinished = self._stages[Stage.HANDSHAKE]
        if len(unfinished) <= self._handshakes:
            return
        oldest = next((one for one in unfinished if not one.busy), None)
        if oldest is not None:
            self._count.closed.labels(why="crowded").inc()
            self._take(oldest)
            self._put(oldest, Stage.GREETING)
            self._stages[Stage.GREETING].move_to_end(oldest, last=False)
            oldest.drop_tls()

    def remove(self, connection: LimitedConnection) -> None:
        """It is closed. Idempotent."""
        if self._take(connection):
            self._hosts[connection.host] -= 1
            if not self._hosts[connection.host]:
                del self._hosts[connection.host]

    def close(self, *stages: Stage) -> None:
        """Close all connections at these stages."""
        for stage in stages:
            for connection in list(self._stages[stage]):
                self.remove(connection)
                connection.close()

    def _make_space(self, host: str | None = None) -> bool:
        """Close one connection, of this host if one is named; False when none can be closed."""
        every = chain(self._stages[Stage.GREETING], self._stages[Stage.HANDSHAKE])
        unverified = [one for one in every if host in (None, one.host)]
        quiet = (one for one in unverified[:PROBED] if not one.busy)
        verified = self._stages[Stage.OPEN]
        idle = (one for one in verified if host in (None, one.host) and not one.busy)
        dispensable = next(chain(quiet, unverified, idle), None)
        if dispensable is None:
            self._count.closed.labels(why="full").inc()
            return False
        self._count.closed.labels(why="crowded").inc()
        self.remove(dispensable)
        dispensable.close()
        return True

    def _put(self, connection: LimitedConnection, stage: Stage) -> None:
        self._stages[stage][connection] = None
        self._count.now.labels(stage=stage.value).set(len(self._stages[stage]))

    def _take(self, connection: LimitedConnection) -> bool:
        for stage, connections in self._stages.items():
            if connection in connections:
                del connections[connection]
                self._count.now.labels(stage=stage.value).set(len(connections))
                return True
        return False

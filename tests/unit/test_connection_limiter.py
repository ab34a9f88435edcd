"""Which connection is closed when there are too many."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.http.connections.limiter import ConnectionLimiter, Stage
from deliv.http.connections.tls_listener import RECORD_HEAD, record_size
from deliv.ops import metrics


@dataclass(eq=False)
class Connection:
    host: str = "192.0.2.1"
    busy: bool = False
    closed: bool = False
    tls_dropped: bool = False

    def close(self) -> None:
        self.closed = True

    def drop_tls(self) -> None:
        self.tls_dropped = True


def make_limiter(most: int = 3, per_host: int = 3, handshakes: int = 2) -> ConnectionLimiter:
    return ConnectionLimiter(
        most=most, per_host=per_host, handshakes=handshakes, count=metrics.CONNECTIONS
    )


def admitted(
    into: ConnectionLimiter, count: int, stage: Stage = Stage.GREETING, host: str = "h"
) -> list[Connection]:
    connections = [Connection(host) for _ in range(count)]
    for connection in connections:
        assert into.admit(connection)
        into.move(connection, stage)
    return connections


def closed(connections: list[Connection]) -> list[bool]:
    return [connection.closed for connection in connections]


def test_the_one_that_waited_longest_is_closed() -> None:
    limiter = make_limiter()
    connections = admitted(limiter, 5)
    assert closed(connections) == [True, True, False, False, False]
    assert len(limiter) == 3


def test_connections_without_certificate_are_closed_first() -> None:
    limiter = make_limiter()
    idle = admitted(limiter, 2, Stage.OPEN)
    unproven = admitted(limiter, 3)
    assert closed(idle) == [False, False]
    assert closed(unproven) == [True, True, False]


def test_idle_connections_are_closed_in_order_of_their_last_request() -> None:
    limiter = make_limiter()
    first, second, third = admitted(limiter, 3, Stage.OPEN)
    limiter.move(first, Stage.OPEN)
    admitted(limiter, 1, Stage.OPEN)
    assert closed([first, second, third]) == [False, True, False]


def test_a_connection_that_is_served_is_not_closed() -> None:
    limiter = make_limiter()
    served = admitted(limiter, 3, Stage.OPEN)
    for connection in served:
        connection.busy = True
    assert not limiter.admit(Connection())
    served[1].busy = False
    assert limiter.admit(Connection())
    assert closed(served) == [False, True, False]


def test_without_certificate_even_a_busy_one_is_closed() -> None:
    limiter = make_limiter(handshakes=9)
    (idle,) = admitted(limiter, 1, Stage.OPEN)
    first, second = admitted(limiter, 2, Stage.HANDSHAKE)
    first.busy = second.busy = True
    (third,) = admitted(limiter, 1)
    assert closed([idle, first, second, third]) == [False, True, False, False]


def test_an_address_over_its_limit_closes_its_own() -> None:
    limiter = make_limiter(most=10, per_host=2)
    others = admitted(limiter, 2, host="other")
    own = admitted(limiter, 4, host="own")
    assert closed(others) == [False, False]
    assert closed(own) == [True, True, False, False]


def test_an_address_whose_connections_are_all_served() -> None:
    limiter = make_limiter(most=10, per_host=1)
    (served,) = admitted(limiter, 1, Stage.OPEN, host="own")
    served.busy = True
    assert not limiter.admit(Connection("own"))
    assert limiter.admit(Connection("other"))


def test_handshakes_have_a_bound_of_their_own() -> None:
    limiter = make_limiter(most=10, per_host=10, handshakes=2)
    greeting = admitted(limiter, 1)
    unfinished = admitted(limiter, 4, Stage.HANDSHAKE)
    assert [connection.tls_dropped for connection in unfinished] == [True, True, False, False]
    assert closed([*greeting, *unfinished]) == [False] * 5
    assert len(limiter) == 5


def test_a_stopped_handshake_is_closed_first() -> None:
    limiter = make_limiter(most=4, per_host=10, handshakes=1)
    greeting = admitted(limiter, 1)
    stopped, kept = admitted(limiter, 2, Stage.HANDSHAKE)
    admitted(limiter, 2)
    assert closed([*greeting, stopped, kept]) == [False, True, False]


def test_removing_twice_is_removing_once() -> None:
    limiter = make_limiter(per_host=1)
    (connection,) = admitted(limiter, 1)
    limiter.remove(connection)
    limiter.remove(connection)
    assert len(limiter) == 0
    assert limiter.admit(Connection("h"))


def test_closing_a_stage() -> None:
    limiter = make_limiter()
    greeting, opened = admitted(limiter, 1), admitted(limiter, 1, Stage.OPEN)
    limiter.close(Stage.GREETING, Stage.HANDSHAKE)
    assert (closed(greeting), closed(opened), len(limiter)) == ([True], [False], 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(Stage), st.booleans()), max_size=60))
def test_no_limit_is_passed(events: list[tuple[int, Stage, bool]]) -> None:
    limiter, open_ = make_limiter(most=5, per_host=3, handshakes=2), list[Connection]()
    for number, stage, busy in events:
        connection = Connection(f"host {number}", busy=busy)
        if limiter.admit(connection):
            limiter.move(connection, stage)
            open_.append(connection)
        open_ = [one for one in open_ if not one.closed]
        assert len(open_) == len(limiter) <= 5
        hosts = [one.host for one in open_]
        assert all(hosts.count(host) <= 3 for host in hosts)


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"\x16\x03\x01\x00\xc8", RECORD_HEAD + 200),
        (b"\x16\x03\x01\x40\x00", RECORD_HEAD + 16384),
        (b"\x16\x03\x01\x40\x01", None),
        (b"\x16\x03\x01\x00\x00", None),
        (b"\x16\x03\x01", None),
        (b"GET /", None),
        (b"\x80\x2e\x01\x00\x02", None),
        (b"", None),
    ],
)
def test_the_size_of_a_greeting(head: bytes, size: int | None) -> None:
    assert record_size(head) == size

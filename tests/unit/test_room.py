"""Which connection gives way when there are too many."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.http.connections.limiter import ConnectionLimiter, Stage
from deliv.http.connections.tls_listener import RECORD_HEAD, record_size
from deliv.ops import metrics


@dataclass(eq=False)
class ClientConnection:
    host: str = "192.0.2.1"
    busy: bool = False
    closed: bool = False
    was_shed: bool = False

    def close(self) -> None:
        self.closed = True

    def shed(self) -> None:
        self.was_shed = True


def room(most: int = 3, per_host: int = 3, handshakes: int = 2) -> ConnectionLimiter:
    return ConnectionLimiter(
        most=most, per_host=per_host, handshakes=handshakes, count=metrics.CONNECTIONS
    )


def admitted(
    into: ConnectionLimiter, count: int, stage: Stage = Stage.GREETING, host: str = "h"
) -> list[ClientConnection]:
    visitors = [ClientConnection(host) for _ in range(count)]
    for visitor in visitors:
        assert into.admit(visitor)
        into.move(visitor, stage)
    return visitors


def closed(visitors: list[ClientConnection]) -> list[bool]:
    return [visitor.closed for visitor in visitors]


def test_the_one_that_waited_longest_gives_way() -> None:
    crowd = room()
    visitors = admitted(crowd, 5)
    assert closed(visitors) == [True, True, False, False, False]
    assert len(crowd) == 3


def test_who_has_no_certificate_gives_way_to_who_has() -> None:
    crowd = room()
    idle = admitted(crowd, 2, Stage.OPEN)
    unproven = admitted(crowd, 3)
    assert closed(idle) == [False, False]
    assert closed(unproven) == [True, True, False]


def test_idle_connections_give_way_by_their_last_request() -> None:
    crowd = room()
    first, second, third = admitted(crowd, 3, Stage.OPEN)
    crowd.move(first, Stage.OPEN)
    admitted(crowd, 1, Stage.OPEN)
    assert closed([first, second, third]) == [False, True, False]


def test_who_is_served_does_not_give_way() -> None:
    crowd = room()
    served = admitted(crowd, 3, Stage.OPEN)
    for visitor in served:
        visitor.busy = True
    assert not crowd.admit(ClientConnection())
    served[1].busy = False
    assert crowd.admit(ClientConnection())
    assert closed(served) == [False, True, False]


def test_who_has_no_certificate_gives_way_even_when_busy() -> None:
    crowd = room(handshakes=9)
    (idle,) = admitted(crowd, 1, Stage.OPEN)
    first, second = admitted(crowd, 2, Stage.HANDSHAKE)
    first.busy = second.busy = True
    (third,) = admitted(crowd, 1)
    assert closed([idle, first, second, third]) == [False, True, False, False]


def test_an_address_makes_way_for_itself_only() -> None:
    crowd = room(most=10, per_host=2)
    others = admitted(crowd, 2, host="other")
    own = admitted(crowd, 4, host="own")
    assert closed(others) == [False, False]
    assert closed(own) == [True, True, False, False]


def test_an_address_whose_connections_are_all_served() -> None:
    crowd = room(most=10, per_host=1)
    (served,) = admitted(crowd, 1, Stage.OPEN, host="own")
    served.busy = True
    assert not crowd.admit(ClientConnection("own"))
    assert crowd.admit(ClientConnection("other"))


def test_handshakes_have_a_bound_of_their_own() -> None:
    crowd = room(most=10, per_host=10, handshakes=2)
    greeting = admitted(crowd, 1)
    unfinished = admitted(crowd, 4, Stage.HANDSHAKE)
    assert [visitor.was_shed for visitor in unfinished] == [True, True, False, False]
    assert closed([*greeting, *unfinished]) == [False] * 5
    assert len(crowd) == 5


def test_a_shed_handshake_gives_way_first() -> None:
    crowd = room(most=4, per_host=10, handshakes=1)
    greeting = admitted(crowd, 1)
    shed, kept = admitted(crowd, 2, Stage.HANDSHAKE)
    admitted(crowd, 2)
    assert closed([*greeting, shed, kept]) == [False, True, False]


def test_leaving_twice_is_leaving_once() -> None:
    crowd = room(per_host=1)
    (visitor,) = admitted(crowd, 1)
    crowd.leave(visitor)
    crowd.leave(visitor)
    assert len(crowd) == 0
    assert crowd.admit(ClientConnection("h"))


def test_closing_a_stage() -> None:
    crowd = room()
    greeting, opened = admitted(crowd, 1), admitted(crowd, 1, Stage.OPEN)
    crowd.close(Stage.GREETING, Stage.HANDSHAKE)
    assert (closed(greeting), closed(opened), len(crowd)) == ([True], [False], 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(Stage), st.booleans()), max_size=60))
def test_no_limit_is_passed(events: list[tuple[int, Stage, bool]]) -> None:
    crowd, inside = room(most=5, per_host=3, handshakes=2), list[ClientConnection]()
    for number, stage, busy in events:
        visitor = ClientConnection(f"host {number}", busy=busy)
        if crowd.admit(visitor):
            crowd.move(visitor, stage)
            inside.append(visitor)
        inside = [one for one in inside if not one.closed]
        assert len(inside) == len(crowd) <= 5
        hosts = [one.host for one in inside]
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

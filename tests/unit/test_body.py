"""The body of a request: what is kept of it, and when it is given up."""

from __future__ import annotations

import sys

import pytest

from deliv.http.call.body import READ_ON, Body
from deliv.http.call.errors import TooLarge


def test_it_is_kept_up_to_the_limit() -> None:
    body = Body(4)
    body.add(b"ab")
    body.add(b"cd")
    assert body.whole() == b"abcd"
    body.add(b"e")
    with pytest.raises(TooLarge, match="larger than 4 bytes"):
        body.whole()
    with pytest.raises(TooLarge):
        body.add(bytes(READ_ON))


@pytest.mark.parametrize("limit", [4, 2 * READ_ON])
def test_one_over_the_limit_is_read_on_for_a_while_and_not_kept(limit: int) -> None:
    """To answer while a client is still sending would lose the answer."""
    body, chunk = Body(limit), bytes(1)
    before = sys.getrefcount(chunk)
    body.announce({"Content-Length": str(limit + READ_ON)})
    body.add(chunk)
    body.add(bytes(limit))
    assert sys.getrefcount(chunk) == before
    body.add(bytes(READ_ON - 1))
    with pytest.raises(TooLarge):
        body.whole()
    with pytest.raises(TooLarge):
        body.add(b"x")
    for late in ({"Content-Length": str(limit + READ_ON + 1)}, {"Expect": "100-continue"}):
        with pytest.raises(TooLarge):
            Body(limit).announce({"Content-Length": str(limit + 1)} | late)


def test_nothing_is_kept_for_a_request_that_is_refused() -> None:
    """A caller may send many of them at once."""
    body, chunk = Body(READ_ON), bytes(1000)
    body.discard()
    before = sys.getrefcount(chunk)
    for _ in range(10):
        body.add(chunk)
    assert sys.getrefcount(chunk) == before
    assert body.whole() == b""

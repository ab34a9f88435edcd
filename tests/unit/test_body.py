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


def test_nothing_is_kept_for_a_request_that_is_refused() -> None:
    """A caller may send many of them at once."""
    body, chunk = Body(READ_ON), bytes(1000)
    body.discard()
    before = sys.getrefcount(chunk)
    for _ in range(10):
        body.add(chunk)
    assert sys.getrefcount(chunk) == before
    assert body.whole() == b""


def test_a_body_over_a_large_limit_is_read_on_too() -> None:
    """Else the answer would be lost on the way."""
    limit = 2 * READ_ON
    body = Body(limit)
    body.announce({"Content-Length": str(limit + 1)})
    for _ in range(limit // READ_ON):
        body.add(b"x" * READ_ON)
    body.add(b"x")
    with pytest.raises(TooLarge):
        body.whole()
    with pytest.raises(TooLarge):
        body.announce({"Content-Length": str(2 * limit + 1)})

"""The body of a request, limited while it arrives."""

from __future__ import annotations

import re
from collections.abc import Mapping

from deliv.http.call.errors import TooLarge

# A body over the limit is read up to this, or twice the limit, so that the 413 arrives.
READ_ON = 8 * 2**20


class Body:
    """At most `limit` bytes, kept in memory.

    A longer body is read on for a while but not kept: to answer while the client is still sending
    closes the connection, and the answer is lost.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._read_on = max(READ_ON, 2 * limit)
        self._kept = True
        self._chunks: list[bytes] = []
        self._size = 0

    def announce(self, headers: Mapping[str, str]) -> None:
        """TooLarge at once for a client that asks first (Expect), or has very much to send."""
        length = headers.get("Content-Length", "")
        size = int(length) if re.fullmatch("[0-9]{1,18}", length) else 0
        if size > self._limit and ("Expect" in headers or size > self._read_on):
            raise self._too_large()

    def add(self, chunk: bytes) -> None:
        """TooLarge when there is no use in reading on."""
        self._size += len(chunk)
        if self._size <= self._limit:
            self._chunks += [chunk] if self._kept else []
        elif self._size > self._read_on:
            raise self._too_large()

    def discard(self) -> None:
        """Keep nothing of what comes: the request is refused already."""
        self._kept = False

    def whole(self) -> bytes:
        """All of it; TooLarge."""
        if self._size > self._limit:
            raise self._too_large()
        return b"".join(self._chunks)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._limit} bytes")

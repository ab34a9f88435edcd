"""The headers that every answer carries, and the size of those that a request brought.

After OWASP's REST Security Cheat Sheet: nothing is cached, guessed, framed, loaded or linked from,
and the service is spoken to by TLS only. Which software answers, and its version, is not said.
"""

from __future__ import annotations

from collections.abc import Iterable

JSON = "application/json; charset=UTF-8"
SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
SEPARATORS = len(": \r\n")


def size(pairs: Iterable[tuple[str, str]]) -> int:
    """How many bytes a header's lines had, about."""
    return sum(len(name) + len(value) + SEPARATORS for name, value in pairs)

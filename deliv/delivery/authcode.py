"""The stager's one-time codes: 128 random bits, shown once, kept only as a digest."""

from __future__ import annotations

import hmac
import secrets
from hashlib import blake2b

BITS = 128


def new() -> str:
    return secrets.token_hex(BITS // 8)


def digest(code: str) -> str:
    """What the database keeps: BLAKE2b-128 in hex, 32 characters."""
    return blake2b(code.encode("utf-8", "surrogatepass"), digest_size=BITS // 8).hexdigest()


def matches(code: str, stored: str | None) -> bool:
    """Compare in constant time; a code that was never given or is used up matches nothing."""
    return hmac.compare_digest(digest(code), stored or "")

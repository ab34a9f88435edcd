"""Synthetic products, `synthetic-<BYTES>`: content that follows from the size alone.

Every mebibyte starts with its own number, so that pieces in the wrong order change the checksum.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator

BLOCK = 2**20
MAXIMUM = 2**40
PATTERN = hashlib.shake_128(b"deliv synthetic product").digest(BLOCK)


def size_of(product_id: str) -> int | None:
    """The size in bytes that a synthetic product's id names; None for any other id."""
    match = re.fullmatch(r"synthetic-(0|[1-9]\d{0,12})", product_id, re.ASCII)
    if not match or int(match[1]) > MAXIMUM:
        return None
    return int(match[1])


def chunks(size: int) -> Iterator[bytes]:
    """The content of a product of `size` bytes, in pieces of at most 1 MiB."""
    for start in range(0, size, BLOCK):
        block = (start // BLOCK).to_bytes(8, "big") + PATTERN[8:]
        yield block[: size - start]


def adler32(size: int) -> str:
    """The ADLER32 of that content: eight hexadecimal digits."""
    value = zlib.adler32(b"")
    for chunk in chunks(size):
        value = zlib.adler32(chunk, value)
    return f"{value:08x}"

"""A plain, interruptible copy with its ADLER32 computed on the way."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PARTIAL = ".partial"


class Interrupted(Exception):
    """The copy was stopped."""


@dataclass(frozen=True, kw_only=True)
class FinishedCopy:
    """`size` in bytes; `checksum` as ADLER32:hex, eight digits."""

    size: int
    checksum: str


def copy(chunks: Iterable[bytes], target: Path, stop: threading.Event) -> FinishedCopy:
    """Write `chunks` to `target`, which appears under its name only when it is complete.

    Raises Interrupted when `stop` is set, OSError when a file can't be read or written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / PARTIAL
    size, adler = 0, zlib.adler32(b"")
    with partial.open("wb") as file:
        for chunk in chunks:
            if stop.is_set():
                raise Interrupted
            file.write(chunk)
            size += len(chunk)
            adler = zlib.adler32(chunk, adler)
    os.replace(partial, target)
    return FinishedCopy(size=size, checksum=f"ADLER32:{adler:08x}")

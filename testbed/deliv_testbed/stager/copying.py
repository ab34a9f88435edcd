"""A plain, interruptible copy of a product, with each file's ADLER32 computed on the way."""

from __future__ import annotations

import json
import os
import shutil
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from deliv_testbed.stager.archive import Product
from deliv_testbed.stager.faults import Faults

PARTIAL = ".partial"
LISTING = ".files"  # beside the copy of a directory: the `files` of its report, as JSON


class Interrupted(Exception):
    """The copy was stopped."""


@dataclass(frozen=True, kw_only=True)
class CopiedFile:
    """`name` as in Product; `size` in bytes; `checksum` as ADLER32:hex, eight digits."""

    name: str
    size: int
    checksum: str


@dataclass(frozen=True, kw_only=True)
class FinishedCopy:
    """`size` in bytes, of all files; `checksum` is None of a directory."""

    size: int
    checksum: str | None


def copy(product: Product, place: Path, stop: threading.Event, faults: Faults) -> FinishedCopy:
    """Copy into the directory `place`, where the product appears under its name when it is whole.

    What was in `place` is removed. Raises Interrupted when `stop` is set, OSError when a file
    can't be read or written.
    """
    shutil.rmtree(place, ignore_errors=True)
    partial = place / PARTIAL
    partial.mkdir(parents=True)
    if product.is_directory:
        files = _copy_files(product, partial / product.name, stop, faults)
        done = FinishedCopy(size=_write_listing(files, place / LISTING), checksum=None)
    else:
        (file,) = _copy_files(product, partial, stop, faults)
        done = FinishedCopy(size=file.size, checksum=file.checksum)
    for whole in partial.iterdir():
        os.replace(whole, place / whole.name)
    partial.rmdir()
    return done


def _copy_files(
    product: Product, directory: Path, stop: threading.Event, faults: Faults
) -> Iterator[CopiedFile]:
    """The files as they are to be reported, each when it is copied."""
    for number, (name, chunks) in enumerate(product.files, 1):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size, checksum = _copy_file(chunks, path, stop)
        if number in faults.lost:
            path.unlink()
        yield CopiedFile(name=name, size=size + (number in faults.short), checksum=checksum)


def _copy_file(chunks: Iterable[bytes], path: Path, stop: threading.Event) -> tuple[int, str]:
    size, adler = 0, zlib.adler32(b"")
    with path.open("wb") as file:
        for chunk in chunks:
            if stop.is_set():
                raise Interrupted
            file.write(chunk)
            size += len(chunk)
            adler = zlib.adler32(chunk, adler)
    return size, f"ADLER32:{adler:08x}"


def _write_listing(files: Iterable[CopiedFile], path: Path) -> int:
    """One file a line; the sum of their sizes."""
    total, separator = 0, "["
    with path.open("w", encoding="utf-8") as listing:
        for file in files:
            listing.write(f"{separator}{json.dumps(asdict(file), ensure_ascii=False)}")
            total, separator = total + file.size, ",\n"
        listing.write("]")
    return total

"""Files that change while deliv runs: read again only when they did."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import Generic, TypeVar

T = TypeVar("T")
Stamp = tuple[int, ...]


def stamp(path: Path) -> Stamp | None:
    """What changes when a file does; None when there is none. OSError when it can't be told."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    # The last one changes with the owner and the mode too: they decide whether it can be read
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def content(path: Path) -> bytes:
    """What a regular file holds. OSError, for a pipe or a device too: they may block for ever."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read()


def numbered(directory: Path, stem: str) -> list[Path]:
    """The files STEM0, STEM1 and so on of a directory, also behind a number that is missing.

    ValueError when the directory can't be read.
    """
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise ValueError(error.strerror) from error
    found = (name for name in names if name.startswith(stem) and name[len(stem) :].isdecimal())
    return [directory / name for name in sorted(found)]


class Parsed(Generic[T]):
    """Files parsed by one function, each once per change. The function's errors are kept too.

    They do not name the file: they end in what callers are told, who need not know paths.
    """

    def __init__(self, parse: Callable[[bytes], T]) -> None:
        self._parse = parse
        self._known: dict[Path, tuple[Stamp, T | ValueError]] = {}

    def get(self, path: Path) -> T | None:
        """What the file holds now, None when there is none; ValueError when it is malformed."""
        now = self._stamp(path)
        if now is None:
            self._known.pop(path, None)
            return None
        known = self._known.get(path)
        if known is None or known[0] != now:
            known = self._known[path] = now, self._read(path)
        if isinstance(known[1], ValueError):
            raise ValueError(str(known[1]))
        return known[1]

    def _stamp(self, path: Path) -> Stamp | None:
        try:
            return stamp(path)
        except OSError as error:
            raise ValueError(error.strerror) from error

    def _read(self, path: Path) -> T | ValueError:
        try:
            return self._parse(content(path))
        except OSError as error:
            return ValueError(error.strerror)
        except ValueError as error:
            return ValueError(str(error))

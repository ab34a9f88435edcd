"""Files that change while deliv runs: read again only when they did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
Stamp = tuple[int, int, int, int]


def stamp(path: Path) -> Stamp | None:
    """What changes when a file does; None when there is none. OSError when it can't be told."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


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
            return self._parse(path.read_bytes())
        except OSError as error:
            return ValueError(error.strerror)
        except ValueError as error:
            return ValueError(str(error))

"""The files of a directory of CAs or VOMS servers, each parsed once per change."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Generic, TypeVar

from deliv.ops.files import WatchedFiles, content, reason

T = TypeVar("T")


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


def missing_number(names: Collection[str], stem: str) -> str | None:
    """The first of the files STEM0, STEM1 and so on that is missing while a later one is there.

    OpenSSL looks at no file behind it.
    """
    found = sum(name.startswith(stem) and name[len(stem) :].isdecimal() for name in names)
    return next((name for n in range(found) if (name := f"{stem}{n}") not in names), None)


class Parsed(Generic[T]):
    """Files parsed by one function. A broken one is not replaced by what it held before.

    The errors do not name the file: they are sent to callers, who need not know paths.
    """

    def __init__(self, parse: Callable[[bytes], T]) -> None:
        self._parse = parse
        self._known: dict[Path, WatchedFiles[T]] = {}

    def get(self, path: Path) -> T | None:
        """What the file holds now, None when there is none; ValueError when it is malformed."""
        file = self._known.get(path) or WatchedFiles(self._read, path)
        file.refresh()
        if isinstance(file.broken, FileNotFoundError | NotADirectoryError):
            self._known.pop(path, None)
            return None
        self._known[path] = file
        if file.broken is not None:
            raise ValueError(reason(file.broken))
        return file.value

    def _read(self, path: Path) -> T:
        return self._parse(content(path))

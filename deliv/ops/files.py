"""Files that change while deliv runs: the one way to notice it, and to read them again.

There is no watching by the kernel: whoever needs the content asks for it, which costs one stat() a
file. So a renewed file counts from the next use on, also on a network file system.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import Generic, TypeVar

T = TypeVar("T")
Stamp = tuple[int, ...]


class WatchedFiles(Generic[T]):
    """What `read(*paths)` makes of files that belong together, as a certificate and its key.

    `value` is the last that could be read: files that are broken leave it. `broken` is what is
    wrong with them now, an error of `read` (OSError or ValueError), else None.
    `version` counts the values. Nothing is read before the first `refresh`.
    """

    value: T

    def __init__(self, read: Callable[..., T], *paths: Path) -> None:
        self._read = read
        self._paths = paths
        self._stamps: tuple[Stamp | None, ...] | None = None
        self.broken: Exception | None = None
        self.version = 0

    def refresh(self) -> bool:
        """Look at the files; True when there is another value than before."""
        try:
            stamps = tuple(map(stamp, self._paths))
            if stamps == self._stamps:
                return False
            self._stamps = None  # a file that can't be reached is tried again at the next look
            value = self._read(*self._paths)
        except OSError as error:
            self._stamps, self.broken = None, error
            return False
        except ValueError as error:
            self._stamps, self.broken = stamps, error
            return False
        self._stamps, self.broken, self.value = stamps, None, value
        self.version += 1
        return True


def stamp(path: Path) -> Stamp | None:
    """What changes when a file does; None when there is none. OSError when that is not known."""
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


def reason(error: Exception) -> str:
    """What an error says, without the path: callers get it, who need not know paths."""
    return getattr(error, "strerror", None) or str(error)

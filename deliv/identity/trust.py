"""The files that decide about callers: a CA directory and a vomsdir, noticed when they change."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from deliv.errors import ConfigError
from deliv.identity.files import Stamp, content, stamp
from deliv.identity.voms import vomsdir
from deliv.identity.x509 import anchors, revocation, signing_policy

Parse = Callable[[bytes], object]
Kinds = tuple[tuple[re.Pattern[str], Parse], ...]
File = tuple[Parse | None, Stamp | str]  # how it is read, and its stamp or why there is none

AUTHORITIES: Kinds = (
    (re.compile(r"[0-9a-f]{8}\.[0-9]+"), anchors.parse),
    (re.compile(r"[0-9a-f]{8}\.r[0-9]+"), revocation.parse),
    (re.compile(r"[0-9a-f]{8}\.signing_policy"), signing_policy.parse),
)
VOMS_SERVERS: Kinds = ((re.compile(r".+\.lsc"), vomsdir.parse),)


class TrustFiles:
    """`unusable`: why a file or directory can't be read or is broken, by path.

    Becoming unusable is a change like any other and hides no other change; an unusable file makes
    no caller trusted. A directory that can't be read at the start raises ConfigError.
    """

    def __init__(self, ca_directory: Path, vomsdir: Path | None) -> None:
        self._ca_directory, self._vomsdir = ca_directory, vomsdir
        self._found: dict[Path, File] = {}
        self.unusable: dict[Path, str] = {}
        self.refresh()
        for what, directory in (("CA directory", ca_directory), ("vomsdir", vomsdir)):
            if directory in self.unusable:
                raise ConfigError(f"the {what} {directory}: {self.unusable[directory]}")

    def refresh(self) -> bool:
        """Look at the files; True when something has changed."""
        found = dict(self._look())
        if found == self._found:
            return False
        reasons = {path: self._reason(path, file) for path, file in found.items()}
        self.unusable = {path: reason for path, reason in reasons.items() if reason is not None}
        self._found = found
        return True

    def _look(self) -> Iterator[tuple[Path, File]]:
        directories = [(self._ca_directory, AUTHORITIES)]
        if self._vomsdir is not None:
            directories.append((self._vomsdir, ()))
            organisations = _inside(self._vomsdir)
            for path in () if isinstance(organisations, str) else organisations:
                try:
                    directories += [(path, VOMS_SERVERS)] if path.is_dir() else []
                except OSError as error:  # a link that can't be followed
                    yield path, (None, str(error.strerror))
        for directory, kinds in directories:
            files = _inside(directory)
            if isinstance(files, str):
                yield directory, (None, files)
                continue
            for path in files:
                for pattern, parse in kinds:
                    if pattern.fullmatch(path.name):
                        yield path, (parse, _state(path))

    def _reason(self, path: Path, file: File) -> str | None:
        """Why the file can't be used; only a changed one is parsed again."""
        parse, state = file
        if isinstance(state, str) or parse is None:
            return str(state)
        if file == self._found.get(path):
            return self.unusable.get(path)
        try:
            parse(content(path))
        except OSError as error:
            return error.strerror
        except ValueError as error:
            return str(error)
        return None


def _inside(directory: Path) -> list[Path] | str:
    """What a directory holds, or why it can't be listed or its files can't be reached."""
    try:
        os.stat(f"{directory}/.")
        return list(directory.iterdir())
    except OSError as error:
        return str(error.strerror)


def _state(path: Path) -> Stamp | str:
    try:
        return stamp(path) or os.strerror(errno.ENOENT)
    except OSError as error:
        return str(error.strerror)

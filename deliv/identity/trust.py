"""The files that decide about callers: a CA directory and a vomsdir, noticed when they change."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from deliv.errors import ConfigError
from deliv.identity.voms import vomsdir
from deliv.identity.x509 import anchors, revocation, signing_policy
from deliv.ops.files import WatchedFiles, content, reason

Parse = Callable[[bytes], object]
Kinds = tuple[tuple[re.Pattern[str], Parse], ...]

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
        self._files: dict[Path, WatchedFiles[datetime | None]] = {}
        self._states: dict[Path, object] = {}
        self.unusable: dict[Path, str] = {}
        self.refresh()
        for what, directory in (("CA directory", ca_directory), ("vomsdir", vomsdir)):
            if directory in self.unusable:
                raise ConfigError(f"the {what} {directory}: {self.unusable[directory]}")

    def refresh(self) -> bool:
        """Look at the files; True when something has changed."""
        found, unusable = self._look()
        # They are parsed to see whether they can be: only the end of a list is kept.
        self._files = {
            path: self._files.get(path) or WatchedFiles(partial(_check, parse), path)
            for path, parse in found.items()
        }
        states: dict[Path, object] = dict(unusable)
        for path, file in self._files.items():
            file.refresh()
            if file.broken is not None:
                unusable[path] = reason(file.broken)
            states[path] = file.version, unusable.get(path)
        changed, self._states, self.unusable = states != self._states, states, unusable
        return changed

    @property
    def crl_ends(self) -> dict[str, datetime]:
        """When each revocation list ends that can be read and does, by its file's name."""
        usable = {path: file.value for path, file in self._files.items() if file.broken is None}
        return {path.name: end for path, end in usable.items() if end is not None}

    def _look(self) -> tuple[dict[Path, Parse], dict[Path, str]]:
        """The files that count, with how each is parsed; what can't be looked into, and why."""
        found: dict[Path, Parse] = {}
        unusable: dict[Path, str] = {}
        directories = [(self._ca_directory, AUTHORITIES)]
        if self._vomsdir is not None:
            directories.append((self._vomsdir, ()))
            organisations = _inside(self._vomsdir)
            for path in () if isinstance(organisations, str) else organisations:
                try:
                    directories += [(path, VOMS_SERVERS)] if path.is_dir() else []
                except OSError as error:  # a link that can't be followed
                    unusable[path] = str(error.strerror)
        for directory, kinds in directories:
            files = _inside(directory)
            if isinstance(files, str):
                unusable[directory] = files
                continue
            for path in files:
                for pattern, parse in kinds:
                    if pattern.fullmatch(path.name):
                        found[path] = parse
        return found, unusable


def _check(parse: Parse, path: Path) -> datetime | None:
    parsed = parse(content(path))
    return parsed.expires if isinstance(parsed, revocation.RevocationList) else None


def _inside(directory: Path) -> list[Path] | str:
    """What a directory holds, or why it can't be listed or its files can't be reached."""
    try:
        os.stat(f"{directory}/.")
        return list(directory.iterdir())
    except OSError as error:
        return str(error.strerror)

"""The files that decide about callers: a CA directory and a vomsdir, noticed when they change."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from deliv.errors import ConfigError
from deliv.identity.files import missing_number
from deliv.identity.voms import vomsdir
from deliv.identity.x509 import anchors, dn, revocation, signing_policy
from deliv.ops.files import WatchedFiles, content, reason

Parse = Callable[[bytes], object]
Kinds = tuple[tuple[re.Pattern[str], Parse], ...]

AUTHORITIES: Kinds = (
    (re.compile(r"[0-9a-f]{8}\.[0-9]+"), anchors.parse),
    (re.compile(r"[0-9a-f]{8}\.r[0-9]+"), revocation.parse),
    (re.compile(r"[0-9a-f]{8}\.signing_policy"), signing_policy.parse),
)
VOMS_SERVERS: Kinds = ((re.compile(r".+\.lsc"), vomsdir.parse),)


class ListSummary(NamedTuple):
    """What is kept of a revocation list, which may have megabytes."""

    ca: str
    expires: datetime | None


class TrustFiles:
    """`unusable`: why a file or directory can't be read or is broken, by path.

    Becoming unusable is a change like any other and hides no other change; an unusable file makes
    no caller trusted. A directory that can't be read at the start raises ConfigError. A CA's file
    that is missing before others of its hash is unusable, too, and in the mode `hard` such a list.
    """

    def __init__(self, ca_directory: Path, vomsdir: Path | None, crl: revocation.Mode) -> None:
        self._ca_directory, self._vomsdir, self._crl = ca_directory, vomsdir, crl
        self._files: dict[Path, WatchedFiles[ListSummary | None]] = {}
        self._states: dict[Path, object] = {}
        self.unusable: dict[Path, str] = {}
        self.refresh()
        for what, directory in (("CA directory", ca_directory), ("vomsdir", vomsdir)):
            if directory in self.unusable:
                raise ConfigError(f"the {what} {directory}: {self.unusable[directory]}")

    def refresh(self) -> bool:
        """Look at the files; True when something has changed."""
        found, unusable = self._look()
        # They are parsed to see whether they can be: only a list's summary is kept.
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
        missing = dict.fromkeys(self._missing_certificates(), "CA certificate")
        missing |= {name: f"list of the CA {ca}" for name, ca in self.missing_lists.items()}
        for name, what in missing.items():
            unusable[self._ca_directory / name] = f"missing, so that no {what} behind it counts"
        changed, self._states, self.unusable = states != self._states, states, unusable
        return changed

    @property
    def crl_ends(self) -> dict[str, datetime]:
        """When each revocation list ends that can be read and does, by its file's name."""
        return {name: one.expires for name, one in self._lists.items() if one.expires is not None}

    @property
    def missing_lists(self) -> dict[str, str]:
        """The CA whose lists follow, by the name of each list that is missing before another."""
        if self._crl == "soft":
            return {}
        names = {path.name for path in self._files}
        return {
            missing: one.ca
            for name, one in self._lists.items()
            if (missing := missing_number(names, name.rstrip("0123456789")))
        }

    def _missing_certificates(self) -> set[str]:
        names = {path.name for path in self._files}
        stems = {f"{name.split('.')[0]}." for name in names}
        return {missing for stem in stems if (missing := missing_number(names, stem))}

    @property
    def _lists(self) -> dict[str, ListSummary]:
        """Each revocation list that can be read, by its file's name."""
        usable = {path.name: file.value for path, file in self._files.items() if not file.broken}
        return {name: value for name, value in usable.items() if value is not None}

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


def _check(parse: Parse, path: Path) -> ListSummary | None:
    parsed = parse(content(path))
    if not isinstance(parsed, revocation.RevocationList):
        return None
    return ListSummary(ca=dn.oneline_rdns(parsed.issuer), expires=parsed.expires)


def _inside(directory: Path) -> list[Path] | str:
    """What a directory holds, or why it can't be listed or its files can't be reached."""
    try:
        os.stat(f"{directory}/.")
        return list(directory.iterdir())
    except OSError as error:
        return str(error.strerror)

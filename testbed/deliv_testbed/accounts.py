"""The ordinary user that the testbed's processes run as, and what that user can reach."""

from __future__ import annotations

import dataclasses
import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deliv_testbed import view
from deliv_testbed.errors import TestbedError

ORDINARY = "nobody"


@dataclass(frozen=True, kw_only=True)
class Account:
    """`enter` is the command that leads into a view, where the user needs one: see view.py."""

    name: str
    uid: int
    gid: int
    enter: tuple[str, ...] = ()

    @property
    def is_caller(self) -> bool:
        return self.uid == os.geteuid()

    def run(
        self, command: Sequence[str | Path], **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """subprocess.run as this user, with text output."""
        words = [*self.enter, *map(str, command)]
        if not self.is_caller and not self.enter:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return subprocess.run(words, text=True, errors="replace", **options)

    def own(self, path: Path) -> None:
        """Hand a file, or a directory with all it holds, to this user."""
        if self.is_caller:
            return
        for directory, _, files in os.walk(path):
            os.chown(directory, self.uid, self.gid)
            for name in files:
                os.lchown(os.path.join(directory, name), self.uid, self.gid)
        if not path.is_dir():
            os.lchown(path, self.uid, self.gid)

    def can(self, permission: str, path: Path) -> bool:
        """Whether this user may read ("r"), write ("w") or execute and enter ("x") `path`."""
        done = self.run(
            ("/usr/bin/test", f"-{permission}", path), stderr=subprocess.DEVNULL, timeout=10
        )
        return done.returncode == 0

    def reaching(self, *directories: Path) -> Account:
        """This user where these directories can be reached; TestbedError where that can't be."""
        if self.is_caller:
            return self
        closed = {}
        for path in directories:
            if above := view.closed_above(path, lambda parent: self.can("x", parent)):
                closed[path] = above
        account = self
        if closed:
            enter = view.command(closed.values(), closed, self.uid, self.gid)
            account = dataclasses.replace(self, enter=enter)
        for path in directories:
            if not account.can("x", path):
                raise TestbedError(
                    f"the testbed drops root's rights and runs as {self.name}, who can't get to "
                    f"{path}: {closed.get(path, path)} is closed. Work where every user may go "
                    "(such as /srv or /opt), or as an ordinary user."
                )
        return account


def unprivileged(*directories: Path) -> Account:
    """The caller, or the user nobody when the caller is root, able to reach these directories.

    TestbedError when there is no such user in passwd, or no way to a directory.
    """
    try:
        entry = pwd.getpwnam(ORDINARY) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError:
        user = ORDINARY if os.geteuid() == 0 else f"uid {os.geteuid()}"
        raise TestbedError(f"{user} has no passwd entry; the GridFTP server needs one") from None
    account = Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
    return account.reaching(*directories)

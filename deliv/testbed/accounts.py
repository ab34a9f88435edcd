"""The ordinary user that the testbed's processes run as, and what that user can reach."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deliv.testbed.errors import TestbedError

ORDINARY = "nobody"


@dataclass(frozen=True, kw_only=True)
class Account:
    name: str
    uid: int
    gid: int

    @property
    def is_caller(self) -> bool:
        return self.uid == os.geteuid()

    def popen_options(self) -> dict[str, object]:
        """What subprocess needs to drop to this user; nothing when the caller is this user."""
        if self.is_caller:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

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
        done = subprocess.run(
            ["/usr/bin/test", f"-{permission}", path],
            timeout=10,
            check=False,
            **self.popen_options(),  # type: ignore[call-overload]
        )
        return bool(done.returncode == 0)

    def require_way_to(self, path: Path) -> None:
        """TestbedError naming the directory on the way to `path` that this user can't enter."""
        for directory in reversed([path, *path.parents]):
            if directory.is_dir() and not self.can("x", directory):
                raise TestbedError(
                    f"the testbed drops root's rights and runs as {self.name}, who can't enter "
                    f"{directory}. Put {path} where every user may go (such as /srv or /opt), "
                    f"or run the testbed as an ordinary user."
                )


def unprivileged() -> Account:
    """The caller, or nobody when the caller is root; the user must stand in passwd."""
    try:
        entry = pwd.getpwnam(ORDINARY) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError:
        user = ORDINARY if os.geteuid() == 0 else f"uid {os.geteuid()}"
        raise TestbedError(f"{user} has no passwd entry; the GridFTP server needs one") from None
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)

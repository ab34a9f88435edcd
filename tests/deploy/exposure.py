"""Where a secret can be seen: processes while a playbook runs, files, journals, logs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.fleet import Fleet

PROC = Path("/proc")
EVERY = 0.01  # seconds between two looks at the machine's processes
LOOKS = 20  # at each process: what it shows changes when it becomes another program
PLACES = ("/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var")
KEY = "PRIVATE KEY-----"
# Runs in a host: for each file named on standard input, its owner and the accounts, but root, that
# can open it.
READERS = r"""
import json, os, pwd, sys
files = [name for name in sys.stdin.read().split("\0") if name and os.path.exists(name)]
readers = {file: [] for file in files}
def try_as(account):
    os.initgroups(account.pw_name, account.pw_gid)
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    for file in files:
        try:
            os.close(os.open(file, os.O_RDONLY))
            readers[file].append(account.pw_name)
        except OSError:
            pass
    os.seteuid(0)
    os.setegid(0)
for account in pwd.getpwall():
    if account.pw_uid:
        try_as(account)
owner = lambda file: pwd.getpwuid(os.stat(file).st_uid).pw_name
print(json.dumps([[file, owner(file), readers[file]] for file in files]))
"""


class ProcessWatch:
    """While the block runs: the command lines and environments of this machine's new processes. The
    hosts' processes are among them.
    """

    def __init__(self) -> None:
        self.shown: set[bytes] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def showed(self, secret: str) -> list[str]:
        return [text.decode(errors="replace") for text in self.shown if secret.encode() in text]

    def _watch(self) -> None:
        looks: dict[str, int] = {}
        while not self._end.wait(EVERY):
            present = {entry.name for entry in PROC.iterdir() if entry.name.isdigit()}
            looks = {pid: looks.get(pid, 0) + 1 for pid in present}
            for pid in (pid for pid, number in looks.items() if number <= LOOKS):
                self._look(pid)

    def _look(self, pid: str) -> None:
        for name in ("cmdline", "environ"):
            try:
                self.shown.add((PROC / pid / name).read_bytes())
            except OSError:  # it has ended
                return


def in_processes(fleet: Fleet, host: str, secrets: Iterable[str]) -> str:
    """The processes of a host that show a secret now; "" when none does."""
    script = "grep -alF --file=/dev/stdin /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"
    return _grep(fleet, host, script, secrets)


def in_journal(fleet: Fleet, host: str, secrets: Iterable[str]) -> str:
    """The lines of a host's journal, and the files below /var/log, that show a secret."""
    script = (
        "umask 077; cat >/run/patterns;"
        " journalctl --all --output=export | grep -aF --file=/run/patterns;"
        " grep -ralF --file=/run/patterns /var/log; rm /run/patterns"
    )
    return _grep(fleet, host, script, secrets)


@dataclass(frozen=True, kw_only=True, order=True)
class Found:
    """A file that holds a secret; `readers` are the accounts, but root, that can read it."""

    path: str
    owner: str
    readers: tuple[str, ...]


def files(fleet: Fleet, host: str, texts: Iterable[str]) -> list[Found]:
    """The files of a host that hold one of the texts."""
    search = f"grep -ralF --devices=skip --null --file=/dev/stdin {' '.join(PLACES)} 2>/dev/null"
    names = _grep(fleet, host, search, texts)
    listing = fleet.execute(host, "python3", "-c", READERS, stdin=names).stdout
    return sorted(
        Found(path=path, owner=owner, readers=tuple(readers))
        for path, owner, readers in json.loads(listing)
    )


def _grep(fleet: Fleet, host: str, script: str, patterns: Iterable[str]) -> str:
    done = fleet.execute(
        host, "sh", "-c", script, stdin="\n".join(patterns), check=False, timeout=120
    )
    return done.stdout.strip()

"""Where a secret can be seen: processes while a playbook runs, files, journals, logs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fleet import Fleet

PROC = Path("/proc")
EVERY = 0.01  # seconds between two looks at the machine's processes
LOOKS = 20  # at each process: what it shows changes when it becomes another program
PLACES = ("/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var")
KEY = "PRIVATE KEY-----"


class ProcessWatch:
    """While the block runs: what the command lines of this machine's new processes show, and their
    environments. The hosts' processes are among them.
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
    """A file that holds a secret."""

    path: str
    owner: str
    mode: int

    @property
    def is_private(self) -> bool:
        return not self.mode & 0o077


def files(fleet: Fleet, host: str, texts: Iterable[str]) -> set[Found]:
    """The files of a host that hold one of the texts."""
    search = f"grep -ralF --devices=skip --null --file=/dev/stdin {' '.join(PLACES)} 2>/dev/null"
    listing = _grep(fleet, host, f"{search} | xargs -0r stat --format='%a %U %n'", texts)
    found = (re.match(r"(\d+) (\S+) (.*)", line) for line in listing.splitlines())
    return {Found(mode=int(m[1], 8), owner=m[2], path=m[3]) for m in found if m}


def _grep(fleet: Fleet, host: str, script: str, patterns: Iterable[str]) -> str:
    done = fleet.execute(
        host, "sh", "-c", script, stdin="\n".join(patterns), check=False, timeout=120
    )
    return done.stdout.strip()

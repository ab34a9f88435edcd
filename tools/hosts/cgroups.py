"""Every process of a run is in the run's own cgroups, by which all of them can be ended.

The machine has pure cgroup2, or the hybrid layout with cgroup2 beside systemd's named hierarchy.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from tools.hosts.programs import wait

TOP = Path("/sys/fs/cgroup")
PROC = Path("/proc")
PAYLOAD = "payload/init.scope"  # where systemd-nspawn puts the guest's PID 1


def _main() -> Path:
    unified = TOP / "unified"
    return unified if (unified / "cgroup.procs").exists() else TOP


def _hierarchies() -> list[Path]:
    named = TOP / "systemd"
    return [_main(), named] if (named / "cgroup.procs").exists() else [_main()]


def enter(name: str) -> None:
    """Move the calling process into the cgroup of that name, created when missing."""
    for hierarchy in _hierarchies():
        cgroup = hierarchy / name
        cgroup.mkdir(exist_ok=True)
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))


def leader(name: str) -> int | None:
    """The PID on this machine of the PID 1 of the guest in that cgroup, if there is one.

    Its helpers are there too, and may have lower numbers: the machine's PIDs begin again.
    """
    try:
        members = (_main() / name / PAYLOAD / "cgroup.procs").read_text().split()
    except OSError:  # the cgroup does not exist yet, or is being removed
        return None
    return next((int(pid) for pid in members if _pid_in_guest(pid) == "1"), None)


def _pid_in_guest(pid: str) -> str:
    try:
        status = (PROC / pid / "status").read_text()
    except OSError:  # it has ended
        return ""
    return next(line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:"))


def kill(prefix: str) -> None:
    """End every process in the cgroups whose names begin so, and remove them."""
    for cgroup in _main().glob(f"{prefix}*/"):
        (cgroup / "cgroup.kill").write_text("1")
    for hierarchy in _hierarchies():
        for cgroup in hierarchy.glob(f"{prefix}*/"):
            wait(partial(_removed, cgroup), f"{cgroup} is empty", 30)


def _removed(cgroup: Path) -> bool:
    for directory, _, _ in os.walk(cgroup, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:  # still in use: try again
            return False
    return True

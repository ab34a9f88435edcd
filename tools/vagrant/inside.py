"""The environment of vagrant-lxc: cgroup2, and the run's own directories and settings of LXC.

Runs in the hub of the run, in a mount namespace of its own: the machine does not see these mounts.
usage: unshare --mount python -m tools.vagrant.inside DIRECTORY COMMAND...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tools.hosts.programs import run

# What LXC reads and writes, by the name that it has in the run's directory for it
PLACES = {"lxc": "/var/lib/lxc", "state": "/run/lxc", "lxc.conf": "/etc/lxc/default.conf"}


def main(directory: str, *command: str) -> None:
    run("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
    for name, place in PLACES.items():
        if name != "lxc.conf":
            Path(place).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", f"{directory}/{name}", place)
    os.execvp(command[0], command)  # noqa: S606 - the command that was asked for


if __name__ == "__main__":
    main(*sys.argv[1:])

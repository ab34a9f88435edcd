"""One host as a running guest: its supervisor, commands in it, its state, its reboot.

usage: python -m tools.hosts.guest RUN NAME  (the supervisor; `up` starts it)
"""

from __future__ import annotations

import os
import subprocess
import sys

from tools.hosts import cgroups, runs
from tools.hosts.errors import HostsError
from tools.hosts.programs import wait
from tools.hosts.roots import PIP_CACHE, pip_cache

REBOOT = 133  # systemd-nspawn's exit code when the guest requests a reboot
BOOT_TIMEOUT = 120.0
SETTLED = {"running", "degraded"}


def supervise(run: runs.Run, host: runs.Host) -> int:
    """Boot the host, and again whenever it requests a reboot; the last exit code."""
    environment = os.environ | {
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    }
    code = REBOOT
    while code == REBOOT:
        code = subprocess.run(_nspawn(run, host), env=environment).returncode
    return code


def _nspawn(run: runs.Run, host: runs.Host) -> list[str]:
    return [
        "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
        f"--machine={host.namespace}", f"--hostname={host.name}", f"--directory={host.root}",
        f"--network-namespace-path=/run/netns/{host.namespace}", "--capability=CAP_NET_ADMIN",
        "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe",
        f"--bind={pip_cache(run)}:{PIP_CACHE}",
    ]  # fmt: skip


def enter_command(host: runs.Host, command: list[str]) -> list[str]:
    """The command line that runs a command inside the host, as root."""
    leader = cgroups.leader(host.namespace)
    if leader is None:
        raise HostsError(f"{host.name} is not running: see {host.console}")
    return ["nsenter", f"--target={leader}", "--all", "--", "env", "-i", *_ENVIRONMENT, *command]


_ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C.UTF-8",
    "HOME=/root",
)


def state(host: runs.Host) -> str:
    """The state that systemd in the host reports; "offline" when it does not answer."""
    try:
        command = enter_command(host, ["systemctl", "is-system-running"])
    except HostsError:
        return "offline"
    reported = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return reported.stdout.strip() or "offline"


def wait_until_up(host: runs.Host) -> str:
    """Until every unit has started or failed: "running", or "degraded" when one failed."""
    try:
        wait(lambda: state(host) in SETTLED, f"{host.name} boots", BOOT_TIMEOUT)
    except HostsError as error:
        tail = host.console.read_text(errors="replace")[-2000:] if host.console.exists() else ""
        raise HostsError(f"{error}; the end of its console:\n{tail}") from error
    return state(host)


def reboot(host: runs.Host) -> None:
    """Reboot, and wait until it is up again."""
    before = cgroups.leader(host.namespace)
    command = enter_command(host, ["systemctl", "--no-block", "reboot"])
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    wait(
        lambda: cgroups.leader(host.namespace) not in (None, before),
        f"{host.name} goes down for its reboot",
        BOOT_TIMEOUT,
    )
    wait_until_up(host)


def main(run_name: str, host_name: str) -> int:
    run = runs.load(run_name)
    return supervise(run, run.host(host_name))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The lab: a run of `tools.hosts` with a client host, and Vagrant's machines in its network."""

from __future__ import annotations

import subprocess
import sys
from collections import deque

from tools.hosts import cgroups, lifecycle, network, registries, roots, runs
from tools.hosts.errors import HostsError
from tools.vagrant import box

CLIENT = "client"
ADDRESSES = (100, 199)  # of the run's subnet, for Vagrant's machines
SHOWN = 40  # lines of Vagrant's, when it fails


def up(name: str, suite: str) -> None:
    """Make the run and all that Vagrant needs there, then `vagrant up`.

    HostsError with the last lines of what failed. After it everything stays, to be examined, until
    `down`.
    """
    file = box.pack(suite)
    run = lifecycle.up(name, suite, [], [CLIENT])
    for directory in ("lxc", "state", "settings"):
        (run.directory / directory).mkdir()
    _configure_lxc(run)
    _start_dhcp(run)
    vagrant(run, "box", "add", "--force", "--name", box.name(suite), str(file))
    _up(run)


def down(name: str) -> None:
    """Remove the machines, the client and the run, if there is one of that name."""
    lifecycle.down(name)


def vagrant(run: runs.Run, *arguments: str) -> None:
    """Any command of Vagrant's, in the lab. CalledProcessError when it fails."""
    subprocess.run(command(run, "vagrant", *arguments), cwd=runs.CHECKOUT, check=True)


def _up(run: runs.Run) -> None:
    last: deque[str] = deque(maxlen=SHOWN)
    with subprocess.Popen(
        command(run, "vagrant", "up"), cwd=runs.CHECKOUT, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last.append(line)
    if process.returncode:
        raise HostsError(f"vagrant up ended with {process.returncode}:\n{''.join(last)}")


def command(run: runs.Run, *arguments: str) -> list[str]:
    """The command line that runs a command in the lab's network, with LXC's state of it."""
    settings = {
        "VAGRANT_HOME": runs.CACHE / "vagrant",
        "VAGRANT_DOTFILE_PATH": run.directory / "vagrant",
        "VAGRANT_DEFAULT_PROVIDER": "lxc",
        "VAGRANT_CHECKPOINT_DISABLE": 1,
        "DELIV_BOX": box.name(run.suite),
    }
    return [
        sys.executable, "-m", "tools.hosts", "--run", run.name, "in",
        "env", *(f"{name}={value}" for name, value in settings.items()),
        "unshare", "--mount", sys.executable, "-m", "tools.vagrant.inside",
        str(run.directory), *arguments,
    ]  # fmt: skip


def _configure_lxc(run: runs.Run) -> None:
    """Settings of every container: its network link, its cgroup, and the registries' proxy."""
    files = roots.registry_settings(run, registries.python_index())
    lines = [
        "lxc.net.0.type = veth",
        f"lxc.net.0.link = {network.BRIDGE}",
        "lxc.net.0.flags = up",
        f"lxc.cgroup.dir = {run.prefix}lxc",  # `down` ends what is in there
        _mount(roots.pip_cache(run), roots.PIP_CACHE, "dir"),
    ]
    for path, content in files.items():
        file = run.directory / "settings" / path.rpartition("/")[2]
        file.write_text(content)
        lines.append(_mount(file, path, "file"))
    (run.directory / "lxc.conf").write_text("".join(f"{line}\n" for line in lines))


def _mount(source: object, place: str, kind: str) -> str:
    return f"lxc.mount.entry = {source} {place.lstrip('/')} none bind,create={kind} 0 0"


def _start_dhcp(run: runs.Run) -> None:
    """A DHCP server, as lxc-net has on the bridge of an ordinary machine."""
    first, last = (run.subnet.replace("0/24", str(number)) for number in ADDRESSES)
    subprocess.run(
        [
            "ip", "netns", "exec", run.hub, "dnsmasq", "--conf-file=/dev/null",
            f"--interface={network.BRIDGE}", "--bind-interfaces", "--port=0", "--no-ping",
            "--dhcp-authoritative", f"--dhcp-range={first},{last},12h", "--dhcp-option=3",
            f"--dhcp-leasefile={run.directory}/leases", f"--pid-file={run.directory}/dnsmasq.pid",
        ],
        preexec_fn=lambda: cgroups.enter(f"{run.prefix}dhcp"),
        check=True,
    )  # fmt: skip

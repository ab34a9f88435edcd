"""Bringing a run up and taking it down."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tools.hosts import access, base, cgroups, guest, network, registries, roots, runs
from tools.hosts.errors import HostsError

NSPAWN = Path("/run/systemd/nspawn")


def up(name: str, suite: str, managed: Iterable[str], clients: Iterable[str]) -> runs.Run:
    """Boot the hosts; an earlier run of that name is taken down first.

    The managed hosts are in the inventory. HostsError when something fails, after removing the run.
    """
    managed, clients = tuple(managed), tuple(clients)
    _check_names(managed + clients)
    root = base.ensure(suite)
    down(name)
    runs.directory(name).mkdir(parents=True)
    run = runs.Run(name=name, number=network.claim(), suite=suite, managed=managed, clients=clients)
    run.save()
    try:
        _boot(run, root)
    except BaseException:
        down(name)
        raise
    return run


def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        # the link's end in the hub has the host's name: 15 characters at most
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,14}", name) or name == network.BRIDGE:
            raise HostsError(f"{name!r} cannot be a host's name: 1 to 15 of a-z 0-9 -")
    if not names or len(set(names)) < len(names) or len(names) > 200:
        raise HostsError("name 1 to 200 hosts, each once")


def _boot(run: runs.Run, root: Path) -> None:
    network.build(run)
    network.name_hosts_in_hub(run, roots.names(run))
    index = registries.python_index()
    _start_gateway(run, index)
    access.make_key(run)
    roots.pip_cache(run).mkdir(parents=True, exist_ok=True)
    for host in run.hosts:
        roots.prepare(run, host, root, index)
    access.write(run)
    for host in run.hosts:
        _start(run, host.namespace, host.console, "guest", run.name, host.name)
    for host in run.hosts:
        guest.wait_until_up(host)


def _start_gateway(run: runs.Run, index: str) -> None:
    mirrors = registries.debian_mirrors()
    addresses = {mirrors.main, mirrors.security, *registries.python_sites(index)}
    arguments = [run.hub, run.gateway, str(runs.GATEWAY_PORT), str(runs.CACHE / "packages")]
    log = run.directory / "gateway.log"
    _start(run, f"{run.prefix}gateway", log, "gateway", *arguments, *registries.allowed(addresses))


def _start(run: runs.Run, cgroup: str, log: Path, module: str, *arguments: str) -> None:
    """A process of its own session, in its own cgroup from its first moment."""
    with log.open("wb") as output:
        subprocess.run(
            ["setsid", "--fork", sys.executable, "-m", f"tools.hosts.{module}", *arguments],
            cwd=runs.CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: cgroups.enter(cgroup),
            check=True,
        )


def down(name: str) -> None:
    """End and remove all that belongs to the run, if there is one of that name."""
    if runs.exists(name):
        run = runs.load(name)
        cgroups.kill(run.prefix)
        _remove_nspawn_files(run)
        roots.unmount_below(run.directory)
        network.remove(run)
        shutil.rmtree(f"/run/{run.prefix}ssh", ignore_errors=True)
    shutil.rmtree(runs.directory(name), ignore_errors=True)


def _remove_nspawn_files(run: runs.Run) -> None:
    """A killed systemd-nspawn leaves its lock on the root, and a directory for later mounts."""
    for host in run.hosts:
        if host.root.is_mount():
            root = host.root.stat()
            (NSPAWN / "locks" / f"inode-{root.st_dev}:{root.st_ino}").unlink(missing_ok=True)
        propagate = NSPAWN / "propagate" / host.namespace
        if propagate.exists():
            propagate.rmdir()

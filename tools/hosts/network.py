"""The run's network: a bridge in the hub namespace, and a veth pair to each host's namespace.

Before anything else, the machine's own stack gets an `unreachable` route for the run's subnet, so
that no packet meant for a test host can leave by a real interface. Adding that route succeeds for
one caller only, so it also makes a run's number unique.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.hosts import runs
from tools.hosts.errors import HostsError
from tools.hosts.programs import run as call

NAMESPACES = Path("/run/netns")
PER_NAMESPACE = Path("/etc/netns")  # files here appear in /etc for `ip netns exec`
BRIDGE = "bridge"


def claim() -> int:
    """A number that no other run on this machine has; its subnet has the `unreachable` route."""
    for number in range(256):
        if _guard(runs.subnet(number)):
            return number
    raise HostsError("every subnet for test hosts is taken: see `ip route show type unreachable`")


def _guard(subnet: str) -> bool:
    if call("ip", "route", "show", "root", subnet) or _inside_a_real_network(subnet):
        return False
    try:
        call("ip", "route", "add", "unreachable", subnet)
    except HostsError as error:
        if "File exists" in str(error):
            return False
        raise
    return True


def _inside_a_real_network(subnet: str) -> bool:
    covering = call("ip", "route", "show", "match", subnet).splitlines()
    return any(not route.startswith(("default", "unreachable")) for route in covering)


def build(run: runs.Run) -> None:
    """The hub and every host's link; the `unreachable` route must be there already."""
    _add_namespace(run.hub)
    _in(run.hub, "link", "add", BRIDGE, "type", "bridge")
    _in(run.hub, "addr", "add", f"{run.gateway}/24", "dev", BRIDGE)
    _in(run.hub, "link", "set", BRIDGE, "up")
    for host in run.hosts:
        _connect(run, host)


def _connect(run: runs.Run, host: runs.Host) -> None:
    _add_namespace(host.namespace)
    _in(host.namespace, "link", "add", "eth0", "type", "veth",
        "peer", "name", host.name, "netns", run.hub)  # fmt: skip
    _in(run.hub, "link", "set", "dev", host.name, "master", BRIDGE, "up")
    _in(host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
    _in(host.namespace, "link", "set", "eth0", "up")


def set_link(run: runs.Run, host: runs.Host, state: str) -> None:
    """Set the host's link `up` or `down`."""
    _in(run.hub, "link", "set", "dev", host.name, state)


def name_hosts_in_hub(run: runs.Run, lines: str) -> None:
    """Commands inside the hub resolve the hosts' names."""
    directory = PER_NAMESPACE / run.hub
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "hosts").write_text(lines)


def remove(run: runs.Run) -> None:
    """Remove the namespaces, as far as they are there, and the `unreachable` route last."""
    for path in NAMESPACES.glob(f"{run.prefix}*"):
        call("ip", "netns", "delete", path.name)
    shutil.rmtree(PER_NAMESPACE / run.hub, ignore_errors=True)
    if call("ip", "route", "show", "type", "unreachable", "exact", run.subnet):
        call("ip", "route", "delete", "unreachable", run.subnet)


def _add_namespace(name: str) -> None:
    call("ip", "netns", "add", name)
    _in(name, "link", "set", "lo", "up")


def _in(namespace: str, *command: str) -> None:
    call("ip", "-netns", namespace, *command)

"""A host from outside: its listening ports, which of them others reach, its units' sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from deploy.fleet import Fleet

LOOPBACK = re.compile(r"127\.|\[?::1")
ALL_PORTS = range(1, 65536)
# Runs in a host: those of the ports given on standard input that accept a connection, tried many at
# a time. What the firewall drops is never answered: each batch takes the whole time.
SCAN = """
import resource, select, socket, sys, time
def accepting(host, ports, seconds):
    poller, tried = select.epoll(), {}
    for port in ports:
        attempt = socket.socket()
        attempt.setblocking(False)
        attempt.connect_ex((host, port))
        poller.register(attempt, select.EPOLLOUT)
        tried[attempt.fileno()] = attempt, port
    deadline = time.monotonic() + seconds
    while tried and (left := deadline - time.monotonic()) > 0:
        for number, _ in poller.poll(left):
            attempt, port = tried.pop(number)
            poller.unregister(number)
            if not attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                print(port)
BATCH = 2000
resource.setrlimit(resource.RLIMIT_NOFILE, (2 * BATCH, 2 * BATCH))
ports = list(map(int, sys.stdin.read().split()))
for start in range(0, len(ports), BATCH):
    accepting(sys.argv[1], ports[start:start + BATCH], float(sys.argv[2]))
"""


@dataclass(frozen=True, kw_only=True, order=True)
class Listener:
    """One listening TCP socket."""

    address: str
    port: int

    @property
    def is_local(self) -> bool:
        return bool(LOOPBACK.match(self.address))


def listeners(fleet: Fleet, host: str) -> set[Listener]:
    """Every listening TCP socket of a host, by `ss -ltn`."""
    lines = fleet.execute(host, "ss", "-Hltn").stdout.splitlines()
    pairs = (line.split()[3].rpartition(":") for line in lines)
    return {Listener(address=address, port=int(port)) for address, _, port in pairs}


def ports(fleet: Fleet, host: str) -> set[int]:
    """The TCP ports on which a host listens on other addresses than loopback."""
    return {found.port for found in listeners(fleet, host) if not found.is_local}


def connects(fleet: Fleet, origin: str, target: str, port: int) -> bool:
    """Whether a TCP connection from one host to a port of another is accepted."""
    return open_ports(fleet, origin, target, [port], seconds=3) == {port}


def open_ports(
    fleet: Fleet,
    origin: str,
    target: str,
    candidates: Iterable[int] = ALL_PORTS,
    *,
    seconds: float = 0.5,
) -> set[int]:
    """The ports of a host that accept a connection from another; by default all are tried."""
    numbers = " ".join(map(str, candidates))
    scan = fleet.execute(
        origin, "python3", "-c", SCAN, fleet.address(target), str(seconds),
        stdin=numbers, timeout=300,
    )  # fmt: skip
    return {int(port) for port in scan.stdout.split()}


def security_score(fleet: Fleet, host: str, unit: str) -> float:
    """systemd's estimate of what a unit could do to its host: 0 (nothing) to 10."""
    report = fleet.execute(host, "systemd-analyze", "security", "--no-pager", unit).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert found, report
    return float(found.group(1))

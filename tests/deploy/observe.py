"""What a host shows to others: its listening ports, what answers a stranger, its units' sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fleet import Fleet

LOOPBACK = re.compile(r"127\.|\[?::1")
ALL_PORTS = range(1, 65536)
# Runs in a host: the ports of a range that accept a connection, many attempts at a time.
SCAN = """
import asyncio, sys
host, seconds, ports = sys.argv[1], float(sys.argv[2]), iter(map(int, sys.stdin.read().split()))
async def worker():
    for port in ports:
        try:
            async with asyncio.timeout(seconds):
                _, writer = await asyncio.open_connection(host, port)
        except OSError:
            continue
        print(port)
        writer.close()
async def main():
    await asyncio.gather(*(worker() for _ in range(500)))
asyncio.run(main())
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
    """The TCP ports on which a host listens for others, not only for itself."""
    return {found.port for found in listeners(fleet, host) if not found.is_local}


def connects(fleet: Fleet, origin: str, target: str, port: int) -> bool:
    """Whether a TCP connection from one host to a port of another comes about."""
    return open_ports(fleet, origin, target, [port], seconds=3) == {port}


def open_ports(
    fleet: Fleet,
    origin: str,
    target: str,
    candidates: Iterable[int] = ALL_PORTS,
    *,
    seconds: float = 0.5,
) -> set[int]:
    """The ports of a host that accept a connection from another; all are tried unless told."""
    numbers = " ".join(map(str, candidates))
    scan = fleet.execute(
        origin, "python3", "-c", SCAN, fleet.address(target), str(seconds),
        stdin=numbers, timeout=300,
    )  # fmt: skip
    return {int(port) for port in scan.stdout.split()}


def security_score(fleet: Fleet, host: str, unit: str) -> float:
    """systemd's own estimate of what a unit could do to its host: 0 (nothing) to 10."""
    said = fleet.execute(host, "systemd-analyze", "security", "--no-pager", unit).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    return float(found.group(1))

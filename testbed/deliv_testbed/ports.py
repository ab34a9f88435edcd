"""Free TCP ports on loopback, outside the range the kernel gives to outgoing connections.

Blocks are above the single ports: a port that a GridFTP server's data passed through can't be
bound for a minute, which would hit other servers that are stopped for a moment.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from pathlib import Path

from deliv_testbed.errors import TestbedError

LOOPBACK = "127.0.0.1"
LOWEST = 20000
SINGLES = 6500  # that many from LOWEST on
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
ATTEMPTS = 2000


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose(count: int, taken: Iterable[int] = ()) -> list[int]:
    """`count` different ports without a listener, none of them in `taken`."""
    avoid, chosen = set(taken), list[int]()
    for _ in range(ATTEMPTS):
        if len(chosen) == count:
            return chosen
        port = random.randrange(LOWEST, LOWEST + SINGLES)  # noqa: S311  spreads, hides nothing
        if port not in avoid and is_free(port):
            avoid.add(port)
            chosen.append(port)
    raise TestbedError(f"no {count} free ports between {LOWEST} and {LOWEST + SINGLES}")


def choose_block(size: int, taken: Iterable[int] = ()) -> range:
    """`size` ports in a row, most of them free: for servers that try one after the other."""
    avoid = set(taken)
    for _ in range(ATTEMPTS):
        start = random.randrange(LOWEST + SINGLES, _highest() - size)  # noqa: S311
        block = range(start, start + size)
        if avoid.isdisjoint(block) and all(is_free(port) for port in block[:: size // 10 or 1]):
            return block
    raise TestbedError(f"no block of {size} free ports between {LOWEST + SINGLES} and {_highest()}")


def accepts(port: int, host: str = LOOPBACK) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _highest() -> int:
    """The end (exclusive) of the ports to choose from."""
    lowest_ephemeral = int(EPHEMERAL.read_text().split()[0])
    return lowest_ephemeral if lowest_ephemeral > LOWEST + SINGLES + 5000 else 2**16

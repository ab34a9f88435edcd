"""Free TCP ports on loopback, outside the range the kernel gives to outgoing connections.

Blocks are above the single ports: a port that a GridFTP server's data passed through can't be
bound for a minute, which would hit other servers that are stopped for a moment.

A single port is kept from others for an hour: between its choice and its server's start, or while
the server is stopped, another stack might choose it as well.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deliv_testbed.errors import TestbedError

LOOPBACK = "127.0.0.1"
LOWEST = 20000
SINGLES = 6500  # that many from LOWEST on
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
ATTEMPTS = 2000
KEPT = 3600.0  # seconds


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose(count: int, taken: Iterable[int] = ()) -> list[int]:
    """`count` different ports without a listener, none of them in `taken` or chosen lately."""
    avoid, chosen = set(taken), list[int]()
    with _chosen_lately() as kept:
        for _ in range(ATTEMPTS):
            if len(chosen) == count:
                return chosen
            port = random.randrange(LOWEST, LOWEST + SINGLES)  # noqa: S311  spreads, hides nothing
            if port not in avoid and port not in kept and is_free(port):
                kept[port] = time.time()
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


@contextmanager
def _chosen_lately() -> Iterator[dict[int, float]]:
    """The ports that this user's processes have chosen, and when; what is added is kept."""
    path = Path(tempfile.gettempdir(), f"deliv-ports-{os.getuid()}.json")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        since = time.time() - KEPT
        before: dict[str, float] = json.loads(file.read() or b"{}")
        kept = {int(port): when for port, when in before.items() if when > since}
        try:
            yield kept
        finally:
            file.seek(0)
            file.truncate()  # who is killed here leaves an empty file
            file.write(json.dumps(kept).encode())


def _highest() -> int:
    """The end (exclusive) of the ports to choose from."""
    lowest_ephemeral = int(EPHEMERAL.read_text().split()[0])
    return lowest_ephemeral if lowest_ephemeral > LOWEST + SINGLES + 5000 else 2**16

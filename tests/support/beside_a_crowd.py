"""A user's submissions to an instance, alone or beside a thousand connections that only wait."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support import live_client
from support.another_instance import Instance
from support.live_client import connected, exchange
from support.running_stack import until

SUBMISSIONS = 60
SILENT, DRIPPING, GREETED = 250, 250, 500
CROWD = Path(__file__).with_name("crowd.py")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds of the slowest submission but one in twenty, and bytes of memory afterwards."""

    p95: float
    memory: int


def measure(instance: Instance) -> Measured:
    """One submission after the other, half of them on a connection of their own."""
    lax = live_client.lax_context(
        Path(instance.stack.testbed["ca_file"]), Path(instance.stack.user("bob").proxy)
    )
    took = []
    with connected(instance.port, lax) as kept:
        for number in range(SUBMISSIONS):
            began = time.perf_counter()
            if number % 2:
                assert exchange(kept, submission(instance)).status == 202
            else:
                with connected(instance.port, lax) as own:
                    assert exchange(own, submission(instance)).status == 202
            took.append(time.perf_counter() - began)
    return Measured(p95=sorted(took)[int(len(took) * 0.95)], memory=instance.resident())


def submission(instance: Instance) -> bytes:
    """Of a product that nobody has, so that it ends by itself and copies nothing."""
    where = instance.stack.testbed["gridftp"]["destination"]["url"]
    body = f"product_id=nothing-for-a-crowd&destination_path={where}".encode()
    head = f"POST /submitTransfer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def beside_a_crowd(instance: Instance) -> Measured:
    with crowd(instance):
        return measure(instance)


@contextmanager
def crowd(instance: Instance) -> Iterator[None]:
    """Here, and taken in by the service."""
    numbers = map(str, (instance.port, SILENT, DRIPPING, GREETED))
    with subprocess.Popen(
        [sys.executable, CROWD, *numbers], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"here\n"
        until(lambda: waiting(instance) >= 900, "most of them have been taken in")
        yield
        process.stdin.close()
        assert process.wait(60) == 0
    until(lambda: waiting(instance) < 10, "they are gone")


def waiting(instance: Instance) -> float:
    lines = instance.status("/metrics")[1].splitlines()
    unfinished = ('deliv_connections{stage="greeting"}', 'deliv_connections{stage="handshake"}')
    return sum(float(line.split()[1]) for line in lines if line.startswith(unfinished))

"""What a running deliv costs: against a bare Tornado server, against FTS alone, and over time."""

from __future__ import annotations

import http.client
import sqlite3
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import yaml
from deliv_testbed import pki
from soak.watch import look
from support.credentials import costly_key
from support.running_stack import Stack, brought_up, until

from bench import campaign, crowd
from bench.figures import Figure, medians

MIB = 2**20
INSTANCE = "deliv@1"
ROUNDS = 300
CONNECTIONS = 60
WARM, MORE = 500, 5_000  # requests
DELIVERIES = 60
FIRST_SIZE = 1_000  # bytes
WAITING = 10_000
FIRST_CALLS, TURNS = 10, 5
COSTLY, LEVELS = 12, 16  # callers, and proxies above one another
BARE = Path(__file__).with_name("bare_server.py")
COSTLY_CALLERS = Path(__file__).with_name("costly_callers.py")
WAITING_JOBS = f"""
INSERT INTO jobs
  (job_id, product_id, status, destination_path, destination_host, submitter, due_at)
SELECT UUID(), seq, 'SUBMITTED', 'gsiftp://nowhere/data', 'nowhere', %s, NOW(6) + INTERVAL 1 DAY
FROM seq_1_to_{WAITING}
"""  # noqa: S608 - a number of this file


class Caller:
    """One client with alice's certificate, which keeps its connection."""

    def __init__(self, stack: Stack, port: int, path: str) -> None:
        user = stack.user("alice")
        self._context = ssl.create_default_context(cafile=stack.testbed["ca_file"])
        self._context.load_cert_chain(user.cert, user.key)
        self._port, self._path = port, path
        self._connection = self._connect()

    def call(self) -> None:
        self._get(self._connection)

    def call_anew(self) -> None:
        """Over a connection of its own."""
        with closing(self._connect()) as connection:
            self._get(connection)

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, context=self._context)

    def _get(self, connection: http.client.HTTPConnection) -> None:
        connection.request("GET", self._path)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content


def figures() -> Iterator[Figure]:
    with brought_up() as stack:
        yield _delivery(stack)
        with bare(stack) as port:
            yield from _calls(stack, port)
        yield from _costly_handshakes(stack)
        yield from _memory(stack)
        yield from crowd.figures(stack)
        yield from campaign.figures(stack)


def _delivery(stack: Stack) -> Figure:
    """From the first submission to the last SUCCESS, against the time in which FTS copies."""
    target = stack.target()
    started = time.monotonic()
    with stack.client() as client:
        jobs = [
            client.submit(f"synthetic-{FIRST_SIZE + number}", target.url)
            for number in range(DELIVERIES)
        ]
    ended = "SELECT COUNT(*) FROM jobs WHERE status = 'SUCCESS'"
    until(lambda: stack.query(ended) == [(len(jobs),)], "everything is delivered", timeout=300)
    return Figure(
        what=f"{DELIVERIES} deliveries", value=time.monotonic() - started,
        against="copying at FTS alone", base=copying(stack), unit="s", most=2,
    )  # fmt: skip


def copying(stack: Stack) -> float:
    """Seconds from the first copy's start to the last one's end, by FTS's record."""
    with closing(
        sqlite3.connect(f"file:{stack.directory}/fts/fts.sqlite?mode=ro", uri=True)
    ) as fts:
        start, end = fts.execute("SELECT MIN(start_time), MAX(finish_time) FROM files").fetchone()
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _calls(stack: Stack, bare_port: int) -> Iterator[Figure]:
    ((job_id,),) = stack.query("SELECT job_id FROM jobs LIMIT 1")
    port = int(stack.url.rpartition(":")[2])
    status = Caller(stack, port, f"/transferStatus?job_id={job_id}")
    whoami = Caller(stack, port, "/whoami")
    hello = Caller(stack, bare_port, "/")
    value, plain, base = medians([status.call, whoami.call, hello.call], ROUNDS)
    against = "a bare Tornado server"
    yield Figure(what="/whoami", value=plain, against=against, base=base, unit="ms", most=4)
    yield Figure(what="/transferStatus", value=value, against=against, base=base, unit="ms", most=8)
    value, base = medians([whoami.call_anew, hello.call_anew], CONNECTIONS)
    yield Figure(
        what="a connection, with one call", value=value,
        against=against, base=base, unit="ms", most=3,
    )  # fmt: skip


def _costly_handshakes(stack: Stack) -> Iterator[Figure]:
    """One user's callers with costly credentials, and the first call of another user.

    With them and without them by turns: what else the machine does is then in both.
    """
    alice = Caller(stack, int(stack.url.rpartition(":")[2]), "/whoami")
    each = [f"127.0.0.{2 + number}" for number in range(COSTLY)]
    for addresses, where in (each, "an address each"), (each[:1] * COSTLY, "one address"):
        alone, beside = [], []
        for _ in range(TURNS):
            alone += medians([alice.call_anew] * FIRST_CALLS, 1)
            with costly_callers(stack, addresses):
                beside += medians([alice.call_anew] * FIRST_CALLS, 1)
            until(lambda: _no_handshake(stack), "their handshakes are over")
        yield Figure(
            what=f"first call, {COSTLY} costly from {where}", value=statistics.median(beside),
            against="alone", base=statistics.median(alone), unit="ms", most=5,
        )  # fmt: skip


def _no_handshake(stack: Stack) -> bool:
    """Whether none is made for a moment; the slowest takes a tenth of a second of CPU time."""
    before = stack.metric("deliv_handshake_cpu_seconds_total")
    time.sleep(1)
    return stack.metric("deliv_handshake_cpu_seconds_total") == before


def _memory(stack: Stack) -> Iterator[Figure]:
    port = int(stack.url.rpartition(":")[2])
    caller = Caller(stack, port, "/transfers")
    for _ in range(WARM):
        caller.call()
    base = _resident(stack)
    for _ in range(MORE):
        caller.call()
    yield Figure(
        what=f"memory after {MORE:,} more calls", value=_resident(stack),
        against=f"after {WARM}", base=base, unit="MiB", most=1.2,
    )  # fmt: skip
    base = _resident(stack)
    stack.query(WAITING_JOBS, stack.user("alice").dn)
    for _ in range(WARM):
        caller.call()
    yield Figure(
        what=f"memory with {WAITING:,} jobs waiting", value=_resident(stack),
        against="with none", base=base, unit="MiB", most=1.2,
    )  # fmt: skip


def _resident(stack: Stack) -> float:
    """MiB"""
    sample = look(stack.testbed["pids"][INSTANCE])
    assert sample is not None
    return sample.memory / MIB


@contextmanager
def costly_callers(stack: Stack, addresses: list[str]) -> Iterator[None]:
    """bob, from these addresses, each in a loop, with a chain that is costly to verify."""
    bob = stack.user("bob")
    credential = pki.load(Path(bob.cert), Path(bob.key))
    for _ in range(LEVELS):
        credential = credential.proxy(key=costly_key("bob"))
    file = stack.directory / "costly.pem"
    pki.write_proxy(file, credential)
    port = stack.url.rpartition(":")[2]
    command = [sys.executable, COSTLY_CALLERS, port, stack.testbed["ca_file"], file, *addresses]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as callers:
        assert callers.stdin is not None
        assert callers.stdout is not None
        try:
            assert callers.stdout.readline() == b"here\n"
            yield
        finally:
            callers.stdin.close()


@contextmanager
def bare(stack: Stack) -> Iterator[int]:
    """The bare server's port, with deliv's own host certificate."""
    rest = yaml.safe_load((stack.directory / "deliv.yaml").read_text(encoding="utf-8"))["rest"]
    command = [sys.executable, BARE, rest["certificate"], rest["key"], stack.testbed["ca_file"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.terminate()

"""What one user's load costs another: submissions beside lists of a large history."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from support.flood import flood
from support.running_stack import Stack, brought_up, until

from bench.figures import MS, Figure

HISTORY = 150_000
CONNECTIONS = 100
ROUNDS, SUBMISSIONS = 5, 60
WAITING = 'deliv_database_calls_waiting{of="callers"}'
ARCHIVED = f"""
INSERT INTO jobs_archive (job_id, product_id, status, destination_path, destination_host, submitter)
SELECT UUID(), 'of-a-large-history', 'SUCCESS', 'gsiftp://nowhere/data', 'nowhere', %s
FROM seq_1_to_{HISTORY}
"""  # noqa: S608 - a number of this file
LIST = b"GET /transfers?product_id=nomatch HTTP/1.1\r\nHost: x\r\n\r\n"


def figures() -> Iterator[Figure]:
    with brought_up() as stack:
        stack.open_archive()
        stack.query(ARCHIVED, stack.user("alice").dn)
        stack.query("ANALYZE TABLE jobs_archive")
        alone, beside = measure(stack)
        yield Figure(
            what=f"p95 of submissions, {CONNECTIONS} lists by another", value=p95(beside),
            against="without them", base=p95(alone), unit="ms", most=2,
        )  # fmt: skip


def measure(stack: Stack) -> tuple[list[float], list[float]]:
    """Seconds of each of bob's submissions without and beside alice's lists.

    They take turns, so that noise is for both.
    """
    port, ca_file = int(stack.url.rpartition(":")[2]), Path(stack.testbed["ca_file"])
    alice = Path(stack.user("alice").proxy)
    alone: list[float] = []
    beside: list[float] = []
    submit(stack, port)  # warm
    for _ in range(ROUNDS):
        alone += submit(stack, port)
        with flood(port, ca_file, alice, LIST, connections=CONNECTIONS, once=False):
            beside += submit(stack, port)
        until(lambda: stack.metric(WAITING) == 0, "what she left behind is served")
    return alone, beside


def submit(stack: Stack, port: int) -> list[float]:
    """Bob's submissions, one after the other, of which none may fail.

    They are of a product that the archive does not have, and so end by themselves.
    """
    context = ssl.create_default_context(cafile=stack.testbed["ca_file"])
    context.load_cert_chain(stack.user("bob").proxy)
    where = stack.testbed["gridftp"]["destination"]["url"]
    body = f"product_id=nothing-to-share&destination_path={where}"
    taken = []
    with closing(http.client.HTTPSConnection("localhost", port, context=context)) as connection:
        connection.connect()
        for _ in range(SUBMISSIONS):
            started = time.perf_counter()
            connection.request("POST", "/submitTransfer", body)
            answer = connection.getresponse()
            content = answer.read()
            taken.append(time.perf_counter() - started)
            assert answer.status == 202, content
    return taken


def p95(seconds: list[float]) -> float:
    """In milliseconds."""
    return sorted(seconds)[int(len(seconds) * 0.95)] * MS

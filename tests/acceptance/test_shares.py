"""One user's load on the database, and what is left to others and to deliv's own work."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from support import live_client
from support.another_instance import Instance, another_instance
from support.flood import flood
from support.live_client import connected, exchange
from support.running_stack import Stack, brought_up, until

pytestmark = pytest.mark.own_stack
LISTS, SUBMISSIONS, OTHERS = 100, 150, 33
LIST = b"GET /transfers?product_id=nomatch HTTP/1.1\r\nHost: x\r\n\r\n"
HISTORY = 150_000
ARCHIVED = f"""
INSERT INTO jobs_archive (job_id, product_id, status, destination_path, destination_host, submitter)
SELECT UUID(), 'of-a-large-history', 'SUCCESS', 'gsiftp://nowhere/data', 'nowhere', %s
FROM seq_1_to_{HISTORY}
"""  # noqa: S608 - a number of this file
LEASE = "SELECT expires FROM leases WHERE name = 'sweep' AND owner <> ''"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """The only one of its stack, where alice may have one unfinished transfer."""
    directory = tmp_path_factory.mktemp("shares")
    with brought_up() as stack:
        stack.stop("deliv@1")
        stack.open_archive()
        settings = yaml.safe_load(Path(stack.testbed["config"]).read_text(encoding="utf-8"))
        policy = yaml.safe_load(Path(settings["policy"]).read_text(encoding="utf-8"))
        alice = stack.user("alice").dn
        for rule in policy["rules"]:
            rule |= {"quota": 1} if rule["dn"] == alice else {}
        own = directory / "policy.yaml"
        own.write_text(yaml.safe_dump(policy, allow_unicode=True), encoding="utf-8")
        with another_instance(stack, directory, policy=str(own)) as instance:
            yield instance


def submission(stack: Stack) -> bytes:
    """Of a product that the archive does not have, so that it ends by itself and copies nothing."""
    where = stack.testbed["gridftp"]["destination"]["url"]
    body = f"product_id=nothing-to-share&destination_path={where}".encode()
    head = f"POST /submitTransfer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def submitted(instance: Instance, times: int) -> Counter[int]:
    """How often bob's submissions, one after the other, were answered how."""
    stack = instance.stack
    bob = live_client.lax_context(Path(stack.testbed["ca_file"]), Path(stack.user("bob").proxy))
    with connected(instance.port, bob) as secure:
        replies = [exchange(secure, submission(stack)) for _ in range(times)]
    return Counter(reply.status for reply in replies)


def alices(instance: Instance) -> tuple[int, Path, Path]:
    stack = instance.stack
    return instance.port, Path(stack.testbed["ca_file"]), Path(stack.user("alice").proxy)


def renewed(stack: Stack) -> None:
    """Returns when the lease of the sweep has been renewed."""
    before = stack.query(LEASE)
    until(lambda: stack.query(LEASE) > before, "the lease is renewed")


@contextmanager
def locked_archive(stack: Stack) -> Iterator[Callable[[], object]]:
    """No list ends well before what this gives is called, or the block ends.

    A submission without an Idempotency-Key does not look there.
    """
    with stack.as_root() as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLES jobs_archive WRITE")
        yield lambda: cursor.execute("UNLOCK TABLES")


def waiting(instance: Instance) -> float:
    wanted = r'^deliv_database_calls_waiting{of="callers"} (\S+)'
    found = re.search(wanted, instance.status("/metrics")[1], re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.timeout(900)
def test_lists_that_do_not_end_keep_nobody_else_waiting(instance: Instance) -> None:
    stack = instance.stack
    with (
        locked_archive(stack) as unlock,
        flood(*alices(instance), LIST, connections=LISTS, once=True) as lists,
    ):
        until(lambda: waiting(instance) >= LISTS / 2, "most of them wait")
        assert submitted(instance, OTHERS) == {202: OTHERS}
        assert instance.status("/ready")[0] == 200
        unlock()
        lists.end()
    assert lists.answers.total() == LISTS
    assert lists.answers.keys() <= {
        200,
        503,
    }  # some may have waited for longer than a list may take


@pytest.mark.timeout(900)
def test_a_large_history_and_many_submissions_are_their_own_users_affair(
    instance: Instance,
) -> None:
    stack = instance.stack
    stack.query(ARCHIVED, stack.user("alice").dn)
    with (
        flood(*alices(instance), LIST, connections=LISTS, once=False),
        flood(*alices(instance), submission(stack), connections=SUBMISSIONS, once=True),
    ):
        assert submitted(instance, OTHERS) == {202: OTHERS}
        renewed(stack)
        assert submitted(instance, OTHERS) == {202: OTHERS}

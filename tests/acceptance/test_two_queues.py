"""What the archive is asked for at once, apart from what FTS has; and the space that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.reconfigured import with_capacity, with_staging_limits
from support.running_stack import Stack, Target, brought_up, until

pytestmark = pytest.mark.own_stack

AT_ONCE = 600  # three times what FTS has at once at most
SIZE = 100_000  # bytes
SPACE = re.compile(r"takes space, (\d+) of (\d+) bytes")
ORDER = "SELECT job_id FROM jobs WHERE label = %s ORDER BY time_staging, job_id"
ASKED = "SELECT COUNT(*) FROM jobs WHERE label = %s AND stager_accepted IS NOT NULL"


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Its stager has time: it is held for as long as the machine needs to ask for all."""
    with brought_up() as stack:
        yield stack


@contextmanager
def held(stack: Stack) -> Iterator[None]:
    """Nothing `held-` is staged meanwhile."""
    hold = stack.directory / "stager" / "hold"
    hold.touch()
    yield
    hold.unlink()


def submit(stack: Stack, user: str, target: Target, count: int, size: int) -> list[str]:
    items = [
        {
            "product_id": f"held-synthetic-{size - number}",
            "destination_path": target.url,
            "label": "queues",
        }
        for number in range(count)
    ]
    with stack.client(user) as client:
        outcomes = client.submit_many(items)
    assert {outcome["code"] for outcome in outcomes} == {202}
    return [str(outcome["job_id"]) for outcome in outcomes]


def all_delivered(stack: Stack, user: str, count: int) -> None:
    def ended() -> bool:
        with stack.client(user) as client:
            totals = client.totals("queues")
        assert not totals["ERROR"], totals
        return totals["SUCCESS"] == count

    until(ended, f"all of {user}'s are delivered", timeout=900)


def test_as_many_are_staged_as_the_archive_takes(stack: Stack) -> None:
    """All are asked for before the first is staged: it takes the time of one staging, not three."""
    with_staging_limits(stack, {})
    target = stack.target()
    with held(stack):
        submit(stack, "alice", target, AT_ONCE, 10_000)
        until(lambda: stack.query(ASKED, "queues") == [(AT_ONCE,)], "all are asked for", 600)
        ((staged,),) = stack.query("SELECT COUNT(time_staged) FROM jobs")
        assert staged == 0
    all_delivered(stack, "alice", AT_ONCE)
    assert len(target.names()) == AT_ONCE


def test_no_more_is_asked_for_than_there_is_space_for(stack: Stack) -> None:
    space_is_kept_and_shared(stack, size=SIZE, area=20 * SIZE, of_alice=100, of_bob=20)


def space_is_kept_and_shared(
    stack: Stack, *, size: int, area: int, of_alice: int, of_bob: int
) -> None:
    """Of products of `size` bytes no more are staged at once than fit into `area` bytes."""
    with_staging_limits(stack, {"bytes": f"{area}B", "bytes_per_product": f"{size}B"})
    with_capacity(stack, area)
    alices, bobs = stack.target(), stack.target()
    with held(stack):
        first = submit(stack, "alice", alices, of_alice, size)
        full = area // size
        until(lambda: stack.query(ASKED, "queues") == [(full,)], "the space is used up", 600)
        # Other products: what both want is staged once.
        second = submit(stack, "bob", bobs, of_bob, size - of_alice)
        with stack.client("bob") as bob:
            assert "all the space" in bob.status(second[0])["detailed_status"]
        listed = stack.curl("/transfers?status=SUBMITTED&limit=100", user="bob").document
        assert {"all the space" in one["detailed_status"] for one in listed["transfers"]} == {True}
    all_delivered(stack, "bob", of_bob)
    all_delivered(stack, "alice", of_alice)
    left = "SELECT * FROM jobs_under_way"
    until(lambda: stack.query(left) == [], "all is given back, and counted so")

    log = (stack.directory / "log" / "stager.log").read_text(encoding="utf-8")
    taken = [int(used) for used, capacity in SPACE.findall(log) if int(capacity) == area]
    assert len(taken) == of_alice + of_bob
    assert area - size < max(taken) <= area
    assert "refused" not in log
    order = [job_id for (job_id,) in stack.query(ORDER, "queues")]
    before_bobs_last = order[: max(map(order.index, second))]
    assert len(set(before_bobs_last) & set(first)) < of_alice * 4 / 5, "both users have their turn"


def test_users_in_step_share_what_there_is_space_for(stack: Stack) -> None:
    """Both have the two products staged that there is room for; neither waits for the other's."""
    with_staging_limits(stack, {"bytes": f"{2 * SIZE}B", "bytes_per_product": f"{SIZE}B"})
    with_capacity(stack, 2 * SIZE)
    users = {user: stack.target() for user in ("alice", "bob")}
    with held(stack):
        for user, target in users.items():
            submit(stack, user, target, 4, SIZE)
        until(lambda: stack.query(ASKED, "queues") == [(4,)], "the space is used up", 600)
        assert stack.query("SELECT COUNT(*) FROM stagings") == [(2,)]
    for user in users:
        all_delivered(stack, user, 4)
    assert "refused" not in (stack.directory / "log" / "stager.log").read_text(encoding="utf-8")

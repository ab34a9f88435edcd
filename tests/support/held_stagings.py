"""Deliveries whose staging is held, so that a test sees how many are asked for at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from support.reconfigured import with_capacity, with_staging_limits
from support.running_stack import Stack, Target, until

SPACE = re.compile(r"takes space, (\d+) of (\d+) bytes")
ORDER = "SELECT job_id FROM jobs WHERE label = %s ORDER BY time_staging, job_id"
ASKED = "SELECT COUNT(*) FROM jobs WHERE label = %s AND stager_accepted IS NOT NULL"


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

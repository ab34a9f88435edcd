"""Two FTS servers: while the first is out the second takes new jobs; the first keeps its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from support.running_stack import Target, frozen, until

from deliv.failpoints import Point
from outages.conftest import INSTANCES, Pair, prepared

FIRST, SECOND = "fts", "fts@2"
SIZES = itertools.count(44_000)
PATIENCE = 120
NEW = 4  # jobs


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Both instances have failpoints."""
    with prepared("--fts-servers", "2") as pair:
        pair.configure(2, faults=str(pair.faults))
        pair.restart(2)
        yield pair


def submit(pair: Pair, target: Target, manner: str = "") -> tuple[str, int]:
    """The job, and how long its file will be."""
    size = next(SIZES)
    with pair.instance(1).client() as client:
        return client.submit(f"{manner}synthetic-{size}", target.url), size


def row(pair: Pair, job_id: str) -> dict[str, Any]:
    columns = ("status", "attempt", "fts_endpoint", "fts_posted")
    sql = f"SELECT {', '.join(columns)} FROM jobs WHERE job_id = %s"  # noqa: S608 - constants
    (values,) = pair.query(sql, job_id)
    return dict(zip(columns, values, strict=True))


def in_hand_at_first(pair: Pair, target: Target) -> dict[str, int]:
    """A copy under way, and one that FTS is about to hear of."""
    copying, size = submit(pair, target)
    until(lambda: pair.copied_by_fts(copying, FIRST), "FTS copies")
    armed = pair.faults / Point.TRANSFER_ASSIGNED
    armed.write_text("hang 2", encoding="ascii")
    assigned, other_size = submit(pair, target)
    until(lambda: not armed.exists(), "it is noted that the first FTS gets it")
    return {copying: size, assigned: other_size}


def breakers(pair: Pair) -> set[str]:
    """What the instances say of the first server's, in readiness and metrics."""
    said = set()
    for number in INSTANCES:
        one = pair.instance(number)
        state = one.ready()["dependencies"][f"fts:{FIRST}"]["breaker"]
        metric = f'deliv_fts_breaker{{endpoint="{FIRST}",state="{state}"}}'
        said.add(state if one.metric(metric) else "changing")
    return said


def assert_delivered(
    pair: Pair, target: Target, jobs: dict[str, int], server: str, attempt: int = 1
) -> None:
    """The first attempt was this server's alone; any may have made a second one."""
    with pair.instance(2).client() as client:
        for job_id, size in jobs.items():
            assert client.wait(job_id, timeout=PATIENCE)["status"] == "SUCCESS"
            assert target.holds_synthetic(size)
            assert row(pair, job_id)["attempt"] == attempt
            assert pair.attempts_at_fts(server)[job_id, 1] == 1
            assert pair.attempts_at_fts()[job_id, 1] == 1
            assert pair.attempts_at_fts()[job_id, attempt] == 1


@pytest.mark.parametrize(("leave", "come_back"), [("kill", "start"), ("freeze", "thaw")])
def test_the_first_is_out(pair: Pair, target: Target, leave: str, come_back: str) -> None:
    """A copy that died with its server takes a second attempt, when that server has reported it."""
    until(lambda: breakers(pair) == {"closed"}, "all is well")
    with frozen(pair, "gridftp-destination"):
        kept = in_hand_at_first(pair, target)
        pair.control(leave, FIRST)
        died = {job for job in kept if leave == "kill" and pair.copied_by_fts(job, FIRST)}
    assert bool(died) == (leave == "kill")
    try:
        new = dict(submit(pair, target, "slow-3-") for _ in range(NEW))
        assert_delivered(pair, target, new, SECOND)
        until(lambda: breakers(pair) == {"open"}, "both leave the first alone")
        assert pair.readiness(1)["status"] == "degraded"
        for job_id in kept:
            assert row(pair, job_id)["status"] == "TRANSFERRING"
    finally:
        pair.control(come_back, FIRST)
    for job_id, size in kept.items():
        assert_delivered(pair, target, {job_id: size}, FIRST, 2 if job_id in died else 1)
    until(lambda: breakers(pair) == {"closed"}, "both have found the first again")
    assert_delivered(pair, target, dict([submit(pair, target)]), FIRST)

"""A product that many jobs of several users want is staged once, for all of them."""

from __future__ import annotations

import itertools

from support.posing import Caller
from support.running_stack import Stack, until
from support.stager_records import copies_made, copies_released, held

USERS = ("alice", "bob", "operator")
MANY = 20
SIZES = itertools.count(77_000)


def test_twenty_jobs_are_one_copy(stack: Stack) -> None:
    """The stager says nothing until all of them wait. None shows the id of another's job."""
    size = next(SIZES)
    product = f"silent-synthetic-{size}"
    users = list(itertools.islice(itertools.cycle(USERS), MANY))
    targets = [stack.target() for _ in users]
    jobs = []
    for user, target in zip(users, targets, strict=True):
        with stack.client(user) as client:
            jobs.append(client.submit(product, target.url))
    until(lambda: all(accepted(stack, job_id) for job_id in jobs), "all wait for the stager")
    (staging_id,) = {stack.staging_id(job_id) for job_id in jobs}
    assert held(stack, product) == [staging_id]
    caller = Caller(stack)
    assert caller.report(caller.staged(staging_id)).status == 200
    for job_id, user, target in zip(jobs, users, targets, strict=True):
        with stack.client(user) as client:
            answer = client.wait(job_id, timeout=400)
        assert (answer["status"], answer["attempt"]) == ("SUCCESS", 1)
        assert target.holds_synthetic(size)
        if job_id != staging_id:
            assert staging_id not in str(answer)
    until(lambda: copies_released(stack)[staging_id], "the copy is given back")
    assert (copies_made(stack)[staging_id], copies_released(stack)[staging_id]) == (1, 1)
    assert not any(copies_made(stack)[job_id] for job_id in jobs if job_id != staging_id)
    assert held(stack, product) == []


def accepted(stack: Stack, job_id: str) -> bool:
    sql = "SELECT stager_accepted IS NOT NULL FROM jobs WHERE job_id = %s"
    return stack.query(sql, job_id) == [(1,)]

"""deliv is killed at each step of a staging that many jobs of several users share."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.posing import Caller
from support.running_stack import Stack, Target, until
from support.stager_records import copies_released, held

from crashes.conftest import PATIENT, be_patient
from crashes.test_crash_matrix import SIZES, Deliv, arm, row, survived
from deliv.failpoints import Point

USERS = ("alice", "bob")
MANY = 20
CANCELLED, FORBIDDEN = 4, 4  # of the jobs
OF_STAGINGS = (
    Point.STAGING_ENTERED,
    Point.CODE_STORED,
    Point.STAGER_ASKED,
    Point.STAGER_ACCEPTED,
    Point.REPORT_TAKEN,
    Point.REPORT_STORED,
    Point.COPY_TAKEN,
    Point.STAGING_CLOSED,
    Point.COPY_RELEASED,
    Point.RELEASE_STORED,
)


@pytest.mark.parametrize("point", OF_STAGINGS, ids=str)
def test_many_jobs_of_one_product_are_staged_once(stack: Stack, point: Point) -> None:
    """Some are cancelled, some may not write where they want to; all others arrive."""
    deliv, size = Deliv(stack), next(SIZES)
    be_patient(stack, PATIENT)
    product, armed = f"silent-synthetic-{size}", stack.directory / "faults" / point
    arm(armed, "kill")
    with ThreadPoolExecutor(1) as caller:
        submitting = caller.submit(submitted, stack, product)
        until(lambda: deliv.revive() or submitting.done(), "all are submitted")
    jobs = submitting.result()
    (staging_id,) = until(lambda: entered(stack, deliv, product), "all wait for one staging")
    for job_id, _ in jobs[:CANCELLED]:
        until(lambda job_id=job_id: withdrawn(stack, deliv, job_id), "it is withdrawn")
    until(lambda: reported(stack, deliv, staging_id), "the report is taken")
    until(lambda: at_rest(stack, deliv, jobs), "all jobs are at rest")
    until(lambda: survived(deliv, armed, "kill"), f"{point} was reached")
    assert deliv.restarts == 1
    expected = ["CANCELLED"] * CANCELLED + ["SUCCESS"] * (MANY - CANCELLED - FORBIDDEN)
    expected += ["ERROR"] * FORBIDDEN
    assert [row(stack, job_id)["status"] for job_id, _ in jobs] == expected
    for _, target in jobs[CANCELLED : MANY - FORBIDDEN]:
        assert target.holds_synthetic(size)
    assert stagings(stack, product) == {(staging_id, "RELEASED")}
    assert copies_released(stack)[staging_id] == 1
    assert held(stack, product) == []


def submitted(stack: Stack, product: str) -> list[tuple[str, Target]]:
    """The jobs, each with a directory of its own; the last ones have one they may not write to."""
    jobs = []
    for number in range(MANY):
        target = stack.target()
        url = target.url
        if number >= MANY - FORBIDDEN:
            url = f"{url.partition('/')[0]}//{url.split('/')[2]}/etc/deliv-crashes-{number}"
        with stack.client(USERS[number % len(USERS)]) as client:
            jobs.append((client.submit(product, url), target))
    return jobs


def entered(stack: Stack, deliv: Deliv, product: str) -> set[str] | None:
    """The stagings of the jobs, when all wait for the report; the stager has its time from now."""
    deliv.revive()
    sql = "SELECT staging_id, stager_accepted FROM jobs WHERE product_id = %s"
    rows = stack.query(sql, product)
    if len(rows) < MANY or not all(accepted for _, accepted in rows):
        return None
    longer = "UPDATE stagings SET accepted = NOW(6) + INTERVAL 1 HOUR WHERE product_id = %s"
    stack.query(longer, product)
    return {staging_id for staging_id, _ in rows}


def reported(stack: Stack, deliv: Deliv, staging_id: str) -> bool:
    """As the stager repeats its report until it is answered."""
    deliv.revive()
    caller = Caller(stack)
    try:
        answer = caller.report(caller.staged(staging_id))
    except subprocess.CalledProcessError:  # cut off
        return False
    return answer.status in {200, 403}  # it was taken before deliv was killed


def stagings(stack: Stack, product: str) -> set[tuple[str, str]]:
    sql = "SELECT staging_id, state FROM stagings WHERE product_id = %s"
    return {(staging_id, state) for staging_id, state in stack.query(sql, product)}


def withdrawn(stack: Stack, deliv: Deliv, job_id: str) -> bool:
    deliv.revive()
    try:
        answer = stack.curl("/cancelTransfer", "--data", f"job_id={job_id}", user="operator")
    except subprocess.CalledProcessError:  # cut off
        return False
    return answer.status in {200, 202, 409}


def at_rest(stack: Stack, deliv: Deliv, jobs: list[tuple[str, Target]]) -> bool:
    deliv.revive()
    rows = [row(stack, job_id) for job_id, _ in jobs]
    return all(job["closed"] and job["due_at"] is None for job in rows)

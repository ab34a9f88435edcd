"""Jobs that ended long ago move to the archive; callers see no difference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.running_stack import Answer, Target, until

from outages.conftest import Pair

BOTH = (1, 2)
LEFT_BEHIND = 90  # seconds: the lease of an instance that was killed at its default pace


@pytest.fixture
def hurried(pair: Pair) -> Iterator[Pair]:
    """Long ago is three seconds."""
    before = {number: pair.config(number).read_text(encoding="utf-8") for number in BOTH}
    for number in BOTH:
        pair.configure(number, retention={"archive_after": "3s", "batch": 2})
        pair.restart(number)
    yield pair
    for number in BOTH:
        pair.config(number).write_text(before[number], encoding="utf-8")
        pair.restart(number)


def submit(pair: Pair, target: Target, size: int) -> Answer:
    fields = ("-d", f"product_id=synthetic-{size}", "-d", f"destination_path={target.url}")
    return pair.instance(1).curl("/submitTransfer", "-H", f"Idempotency-Key: {size}", *fields)


def status(pair: Pair, job_id: str) -> Answer:
    return pair.instance(2).curl(f"/transferStatus?job_id={job_id}")


def test_callers_see_no_difference(hurried: Pair, target: Target) -> None:
    sizes = range(46_000, 46_005)
    jobs = {size: submit(hurried, target, size).document["job_id"] for size in sizes}
    seen = {}
    with hurried.instance(1).client() as client:
        for job_id in jobs.values():
            seen[job_id] = client.wait(job_id, timeout=400)
            assert seen[job_id]["status"] == "SUCCESS"
    until(lambda: not hurried.query("SELECT job_id FROM jobs"), "archived", LEFT_BEHIND + 60)
    assert len(hurried.query("SELECT job_id FROM jobs_archive")) >= len(jobs)
    for size, job_id in jobs.items():
        assert status(hurried, job_id).document == seen[job_id]
        assert submit(hurried, target, size).document["job_id"] == job_id
    cancel = hurried.instance(1).curl("/cancelTransfer", "--data", f"job_id={job_id}")
    assert cancel.status == 409
    assert not hurried.query("SELECT event_id FROM job_events")

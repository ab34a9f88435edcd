"""A deadline ends a job, wherever it is, and what the job held elsewhere is given back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.running_stack import Answer, Stack, Target, frozen, until


def ahead(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def submit(stack: Stack, product: str, target: Target, deadline: str, *more: str) -> Answer:
    fields = {"product_id": product, "destination_path": target.url, "deadline": deadline}
    data = [word for name in fields for word in ("--data-urlencode", f"{name}={fields[name]}")]
    return stack.curl("/submitTransfer", *data, *more)


def ended(stack: Stack, product: str, target: Target, seconds: float) -> dict[str, Any]:
    job_id = submit(stack, product, target, ahead(seconds)).document["job_id"]
    with stack.client() as client:
        return client.wait(job_id, timeout=400)


def released(stack: Stack, job_id: str) -> list[Any]:
    sql = "SELECT 1 FROM jobs WHERE job_id = %s AND time_released IS NOT NULL"
    return stack.query(sql, job_id)


def test_while_the_stager_is_silent(stack: Stack, target: Target) -> None:
    answer = ended(stack, "silent-synthetic-2100", target, 5)
    assert (answer["status"], answer["error_class"]) == ("ERROR", "deadline")
    assert "was not delivered by the deadline" in answer["detailed_status"]
    assert "later deadline" in answer["detailed_status"]
    assert answer["deadline"] < answer["time_error"]
    until(lambda: released(stack, answer["job_id"]), "the staged copy is given back")
    assert not stack.staged_copy(answer["job_id"]).exists()
    assert not target.directory.exists()


def test_while_it_is_copied(stack: Stack, target: Target) -> None:
    """FTS has confirmed."""
    with frozen(stack, "gridftp-destination"):
        job_id = submit(stack, "synthetic-2104", target, ahead(3600)).document["job_id"]
        until(lambda: stack.copied_by_fts(job_id), "the copy has begun")
        sql = "SELECT job_id FROM jobs WHERE job_id = %s AND deadline_passed IS NULL"
        assert stack.query(sql, job_id)
        stack.query("UPDATE jobs SET deadline = NOW(6) WHERE job_id = %s", job_id)
        with stack.client() as client:
            answer = client.wait(job_id, timeout=400)
    assert (answer["status"], answer["error_class"]) == ("ERROR", "deadline")
    until(lambda: released(stack, job_id), "the staged copy is given back")


def test_what_is_there_in_time_is_a_success(stack: Stack, target: Target) -> None:
    answer = ended(stack, "synthetic-2101", target, 120)
    assert answer["status"] == "SUCCESS"
    assert target.holds_synthetic(2101)


@pytest.mark.parametrize(
    ("deadline", "reason"),
    [
        ("soon", "ISO 8601"),
        ("2030-01-01T00:00:00", "offset"),
        (ahead(-60), "over already"),
        ("1970-01-01T00:00:00Z", "over already"),
        ("1970-01-01T00:00:01Z", "over already"),
    ],
)
def test_bad_input(stack: Stack, target: Target, deadline: str, reason: str) -> None:
    before = stack.how_many_jobs()
    answer = submit(stack, "synthetic-2102", target, deadline)
    assert (answer.status, answer.document["job_id"]) == (400, None)
    assert reason in answer.document["msg"]
    assert stack.how_many_jobs() == before


def test_a_deadline_is_part_of_the_request(stack: Stack, target: Target) -> None:
    key = ("--header", f"Idempotency-Key: {target.directory.name}")
    deadline = ahead(3)
    first = submit(stack, "silent-synthetic-2103", target, deadline, *key)
    assert submit(stack, "silent-synthetic-2103", target, ahead(600), *key).status == 422
    job_id = first.document["job_id"]
    with stack.client() as client:
        assert client.wait(job_id, timeout=400)["error_class"] == "deadline"
    again = submit(stack, "silent-synthetic-2103", target, deadline, *key)
    assert (again.status, again.document["job_id"]) == (202, job_id)

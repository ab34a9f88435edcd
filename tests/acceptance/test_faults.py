"""What goes wrong at the stager or the destination becomes the job's clear end."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.running_stack import Stack, Target, until


def outcome(stack: Stack, product: str, url: str) -> dict[str, object]:
    with stack.client() as client:
        return client.wait(client.submit(product, url), timeout=400)


@pytest.mark.parametrize(
    ("product", "reason"),
    [("fail-005", "the tape can't be read"), ("no such thing", "no such product")],
)
def test_a_failed_staging(stack: Stack, target: Target, product: str, reason: str) -> None:
    answer = outcome(stack, product, target.url)
    assert (answer["status"], answer["error_class"]) == ("ERROR", "stager")
    assert reason in str(answer["detailed_status"])
    assert "operators" in str(answer["detailed_status"])
    assert "time_error" in answer
    assert not target.directory.exists()


@pytest.mark.parametrize("fault", ["twice", "badcode", "slow-1", "early"])
def test_a_stager_that_misbehaves_does_no_harm(stack: Stack, target: Target, fault: str) -> None:
    size = 4_000
    answer = outcome(stack, f"{fault}-synthetic-{size}", target.url)
    assert answer["status"] == "SUCCESS", answer
    assert answer["attempt"] == 1
    assert target.holds_synthetic(size)
    file = target.directory / f"synthetic-{size}"
    assert until(lambda: stack.times_written(file), "the server logs the copy") == 1


def test_an_existing_file_is_not_overwritten(stack: Stack, target: Target) -> None:
    assert outcome(stack, "synthetic-4001", target.url)["status"] == "SUCCESS"
    file = target.directory / "synthetic-4001"
    file.write_bytes(b"mine")
    answer = outcome(stack, "synthetic-4001", target.url)
    assert (answer["status"], answer["error_class"]) == ("ERROR", "exists")
    assert file.read_bytes() == b"mine"


def test_two_jobs_for_one_file_make_one_file(stack: Stack, target: Target) -> None:
    with stack.client() as client:
        jobs = [client.submit("slow-1-synthetic-4002", target.url) for _ in range(2)]
        answers = [client.wait(job_id, timeout=400) for job_id in jobs]
    assert sorted(answer["status"] for answer in answers) == ["ERROR", "SUCCESS"]
    assert {a.get("error_class") for a in answers} == {None, "exists"}
    assert target.holds_synthetic(4002)
    file = target.directory / "synthetic-4002"
    assert until(lambda: stack.times_written(file), "the server logs the copy") == 1


def test_a_destination_that_may_not_be_written(stack: Stack, target: Target) -> None:
    server = target.url.partition("://")[2].partition("/")[0]
    forbidden = Path("/etc/deliv-acceptance")
    answer = outcome(stack, "synthetic-4003", f"gsiftp://{server}{forbidden}")
    assert (answer["status"], answer["error_class"]) == ("ERROR", "no permission")
    assert not forbidden.exists()


def test_a_destination_where_nobody_answers(stack: Stack) -> None:
    answer = outcome(stack, "synthetic-4004", "gsiftp://127.0.0.1:1/home/alice")
    assert (answer["status"], answer["error_class"]) == ("ERROR", "unreachable")
    assert "host name" in str(answer["detailed_status"])

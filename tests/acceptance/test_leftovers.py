"""What a job has left when it ended in ERROR need not be removed before it is repeated."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import pytest
from deliv_testbed import synthetic
from support.deliveries_of_trees import assert_whole, tree
from support.running_stack import Stack, Target, until
from support.small_disk import small_directory

pytestmark = pytest.mark.timeout(900)
SIZE = 3_000_000


def ended(stack: Stack, product: str, target: Target) -> dict[str, Any]:
    with stack.client() as client:
        return client.wait(client.submit(product, target.url), timeout=400)


def given_up_without_space(stack: Stack, target: Target) -> dict[str, Any]:
    """What became of a job whose copy found no space, when its time was over."""
    with stack.client() as client:
        job_id = client.submit(f"synthetic-{SIZE}", target.url)
        until(lambda: client.status(job_id).get("waiting_for") == "space", "it waits for space")
        stack.query("UPDATE jobs SET deadline = NOW(6) WHERE job_id = %s", job_id)
        job = client.wait(job_id, timeout=400)
    assert (job["status"], job["error_class"]) == ("ERROR", "deadline"), job
    return job


def repeated(stack: Stack, job: dict[str, Any]) -> dict[str, Any]:
    """What became of the job that repeats it."""
    with stack.client() as client:
        (outcome,) = client.retry([job["job_id"]])
        assert (outcome["code"], outcome["retry_of"]) == (202, job["job_id"])
        return client.wait(outcome["job_id"], timeout=400)


def test_a_part_from_before_the_disk_was_full_is_replaced(stack: Stack, target: Target) -> None:
    """gfal2 has removed the part, which it can't where the server dies: it is put there again."""
    with small_directory(target.directory, "1m") as resize:
        first = given_up_without_space(stack, target)
        resize("10m")
        part = target.put(f"synthetic-{SIZE}", b"".join(synthetic.chunks(SIZE))[: SIZE // 3])
        before = datetime.fromisoformat(first["time_error"]).timestamp() - 5
        os.utime(part, (before, before))
        again = repeated(stack, first)
        assert (again["status"], again["attempt"]) == ("SUCCESS", 2), again
        assert target.holds_synthetic(SIZE)


def test_a_file_of_the_users_own_in_its_place_is_not(stack: Stack, target: Target) -> None:
    with small_directory(target.directory, "1m") as resize:
        first = given_up_without_space(stack, target)
        resize("10m")
        target.put(f"synthetic-{SIZE}", b"mine")
        again = repeated(stack, first)
        assert (again["status"], again["error_class"]) == ("ERROR", "exists"), again
        assert "differs from the product" in again["detailed_status"]
        assert (target.directory / f"synthetic-{SIZE}").read_bytes() == b"mine"


def test_of_many_files_those_that_had_arrived_are_delivered(stack: Stack, target: Target) -> None:
    product = "tree-12-1000"
    place = target.directory / product
    denied = place / "1" / "1"
    for directory in (target.directory, place, place / "1", denied):
        directory.mkdir()
        directory.chmod(0o777)
    denied.chmod(0o555)
    first = ended(stack, product, target)
    assert (first["error_class"], first["files_done"]) == ("no permission", 11), first
    denied.chmod(0o777)
    again = repeated(stack, first)
    assert (again["status"], again["files_done"]) == ("SUCCESS", 12), again
    assert_whole(place, tree(product))

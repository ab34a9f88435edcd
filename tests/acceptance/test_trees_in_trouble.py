"""Of a product of many files some fail, or it is ended in the middle: what is said is so.

tests/soak/test_long_forms.py has the same with more files.
"""

from __future__ import annotations

import pytest
from support.deliveries_of_trees import (
    assert_counts_are_true,
    files_below,
    finished_at_fts,
    listed,
    tree,
    whole_files,
)
from support.running_stack import Stack, Target, until

pytestmark = pytest.mark.timeout(900)


def test_some_of_sixty_fail(stack: Stack, target: Target) -> None:
    some_of_many_fail(stack, target, 60)


def some_of_many_fail(stack: Stack, target: Target, count: int) -> None:
    """One has gone, one has another size, and those of one directory may not be written."""
    product = f"tree-{count}-1000"
    expected, place = tree(product), target.directory / product
    all_names = list(expected.names)
    lost, short = all_names[2], all_names[4]
    denied = {name for name in all_names if name.startswith("7/2/")}
    for directory in (target.directory, place, place / "7", place / "7" / "2"):
        directory.mkdir()
        directory.chmod(0o777)
    (place / "7" / "2").chmod(0o555)
    with stack.client() as client:
        job_id = client.submit(f"lost-3-short-5-{product}", target.url)
        answer = client.wait(job_id, timeout=600)
    missing = {lost, short} | denied
    done = count - len(missing)
    assert (answer["status"], answer["files_done"]) == ("ERROR", done), answer
    assert answer["detailed_status"].startswith(
        f"{done:,} of {count:,} files arrived; {len(missing):,} did not: "
    )
    failed = listed(stack, job_id, "state=FAILED")
    assert {name: file["error_class"] for name, file in failed.items()} == {
        lost: "source missing", short: "checksum", **dict.fromkeys(denied, "no permission"),
    }  # fmt: skip
    assert all(file["reason"] and file["remedy"] for file in failed.values())
    assert whole_files(place, expected) - {short} == set(all_names) - missing

    there = files_below(place)
    (place / "7" / "2").chmod(0o777)
    with stack.client() as client:
        job_id = client.submit(product, target.url)
        answer = client.wait(job_id, timeout=600)
    assert (answer["status"], answer["error_class"]) == ("ERROR", "exists"), answer
    failed = listed(stack, job_id, "state=FAILED&limit=100")
    assert {file["error_class"] for file in failed.values()} == {"exists"}
    assert failed.keys() == there
    assert files_below(place) == set(all_names)


def test_a_cancel_in_the_middle(stack: Stack, target: Target) -> None:
    cancelled_in_the_middle(stack, target, "tree-300-1000", after=50)


def cancelled_in_the_middle(stack: Stack, target: Target, product: str, after: int) -> None:
    """When so many files have been copied, and at once in the midst of a transfer."""
    with stack.client() as client:
        job_id = client.submit(product, target.url)
        until(lambda: in_the_middle(stack, job_id, after), "some are copied", timeout=900)
        assert stack.curl("/cancelTransfer", "-d", f"job_id={job_id}").status in {200, 202}
        answer = client.wait(job_id, timeout=400)
    assert answer["status"] == "CANCELLED"
    assert after <= answer["files_done"] < answer["files_total"]
    assert_counts_are_true(stack, answer, target)


def test_a_deadline_in_the_middle(stack: Stack, target: Target) -> None:
    with stack.client() as client:
        job_id = client.submit("tree-300-1000", target.url)
        until(lambda: in_the_middle(stack, job_id, 50), "some are copied", timeout=900)
        stack.query("UPDATE jobs SET deadline = NOW(6) WHERE job_id = %s", job_id)
        answer = client.wait(job_id, timeout=400)
    assert (answer["status"], answer["error_class"]) == ("ERROR", "deadline")
    assert 50 <= answer["files_done"] < answer["files_total"]
    assert_counts_are_true(stack, answer, target)


def in_the_middle(stack: Stack, job_id: str, after: int) -> bool:
    return finished_at_fts(stack, job_id) >= after and stack.copied_by_fts(job_id)

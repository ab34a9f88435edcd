"""Products of many files: they arrive with their directories, or it is said which did not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from deliv_testbed.trees import Tree, tree_of
from support.running_stack import Stack, Target, frozen, until


@pytest.mark.timeout(300)
def test_a_tree_arrives_byte_for_byte_and_each_file_once(stack: Stack, target: Target) -> None:
    with stack.client() as client:
        job_id = client.submit("tree-30-5000", target.url)
        answer = client.wait(job_id, timeout=240)
    assert answer["status"] == "SUCCESS", answer
    place = target.directory / "tree-30-5000"
    assert_whole(place, tree("tree-30-5000"))
    done = {
        name: answer[name] for name in ("files_total", "files_done", "bytes_total", "bytes_done")
    }
    assert done == {
        "files_total": 30, "files_done": 30, "bytes_total": 150_000, "bytes_done": 150_000,
    }  # fmt: skip
    files = [file for file in place.rglob("*") if file.is_file()]
    until(lambda: all(map(stack.times_written, files)), "the server logs every copy")
    assert {stack.times_written(file) for file in files} == {1}


@pytest.mark.timeout(300)
def test_what_did_not_arrive_is_named_with_its_reason(stack: Stack, target: Target) -> None:
    """One file is not where the stager says, another is shorter than it says."""
    with stack.client() as client:
        job_id = client.submit("lost-3-short-5-tree-12-2000", target.url)
        answer = client.wait(job_id, timeout=240)
    assert (answer["status"], answer["files_done"]) == ("ERROR", 10)
    assert answer["detailed_status"].startswith("10 of 12 files arrived; 2 did not: ")
    lost, short = list(tree("tree-12-2000").names)[2:5:2]
    failed = stack.curl(f"/transferFiles?job_id={job_id}&state=FAILED").document
    assert failed["next"] is None
    said = {file["name"]: file for file in failed["files"]}
    assert {name: file["error_class"] for name, file in said.items()} == {
        lost: "source missing", short: "checksum",
    }  # fmt: skip
    assert all(file["reason"] and file["advice"] for file in said.values())
    assert said[lost]["destination"] == f"{answer['files_directory']}/{lost}"
    assert names(stack, job_id, "state=FINISHED&limit=7") == set(tree("tree-12-2000").names) - {
        lost, short,
    }  # fmt: skip
    assert names(stack, job_id, "limit=5") == set(tree("tree-12-2000").names)
    assert stack.curl(f"/transferFiles?job_id={job_id}", user="bob").status == 403
    place = target.directory / answer["files_directory"].rpartition("/")[2]
    arrived = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    assert arrived - {short} == set(tree("tree-12-2000").names) - {lost, short}


def names(stack: Stack, job_id: str, query: str) -> set[str]:
    """Of all pages; no file is on two."""
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = stack.curl(f"/transferFiles?job_id={job_id}&{query}{more}").document
        found += [file["name"] for file in page["files"]]
        cursor = page["next"]
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.timeout(300)
def test_where_nothing_may_be_written_it_ends_after_a_few(stack: Stack, target: Target) -> None:
    scheme, _, host, *_ = target.url.split("/")
    with stack.client() as client:
        job_id = client.submit("tree-100-10", f"{scheme}//{host}/etc/deliv-trees")
        answer = client.wait(job_id, timeout=240)
    assert (answer["status"], answer["error_class"]) == ("ERROR", "no permission")
    assert "100 did not (90 of them were not tried)" in answer["detailed_status"]
    assert len(names(stack, job_id, "state=FAILED")) == 10
    assert len(names(stack, job_id, "state=WAITING")) == 90


@pytest.mark.timeout(300)
def test_a_cancellation_says_how_far_it_came(stack: Stack, target: Target) -> None:
    with stack.client() as client:
        with frozen(stack, "gridftp-destination"):
            job_id = client.submit("tree-30-2000", target.url)
            until(lambda: stack.copied_by_fts(job_id), "copies have begun")
            assert stack.curl("/cancelTransfer", "-d", f"job_id={job_id}").status in {200, 202}
            answer = client.wait(job_id, timeout=120)
    assert answer["status"] == "CANCELLED"
    found = re.search(
        r"(\d+) files arrived whole, (\d+) may be there in part, (\d+) not",
        answer["detailed_status"],
    )
    assert found is not None
    whole, parts, absent = map(int, found.groups())
    assert (whole, whole + parts + absent) == (0, 30)
    assert absent >= 20
    assert names(stack, job_id, "state=ASSIGNED") == set()


def tree(product_id: str) -> Tree:
    found = tree_of(product_id)
    assert found is not None
    return found


def assert_whole(place: Path, expected: Tree) -> None:
    names = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    assert names == set(expected.names)
    for number, name in enumerate(expected.names, 1):
        assert (place / name).read_bytes() == b"".join(expected.chunks(number))

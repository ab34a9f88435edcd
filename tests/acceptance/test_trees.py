"""Products of many files: they arrive with their directories, or it is said which did not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.deliveries_of_trees import assert_whole, names, tree, wait_long_for_the_report
from support.posing import Caller
from support.running_stack import Answer, Stack, Target, frozen, until


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
    assert all(file["reason"] and file["remedy"] for file in said.values())
    assert said[lost]["destination"] == f"{answer['files_directory']}/{lost}"
    assert names(stack, job_id, "state=FINISHED&limit=7") == set(tree("tree-12-2000").names) - {
        lost, short,
    }  # fmt: skip
    assert names(stack, job_id, "limit=5") == set(tree("tree-12-2000").names)
    cursor = stack.curl(f"/transferFiles?job_id={job_id}&state=FINISHED&limit=7").document["next"]
    other = stack.curl(f"/transferFiles?job_id={job_id}&state=FAILED&cursor={cursor}")
    assert (other.status, "another list" in other.document["msg"]) == (400, True)
    assert stack.curl(f"/transferFiles?job_id={job_id}", user="bob").status == 403
    place = target.directory / answer["files_directory"].rpartition("/")[2]
    arrived = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    assert arrived - {short} == set(tree("tree-12-2000").names) - {lost, short}


def test_where_nothing_may_be_written_it_ends_after_a_few(stack: Stack, target: Target) -> None:
    scheme, _, host, *_ = target.url.split("/")
    with stack.client() as client:
        job_id = client.submit("tree-100-10", f"{scheme}//{host}/etc/deliv-trees")
        answer = client.wait(job_id, timeout=240)
    assert (answer["status"], answer["error_class"]) == ("ERROR", "no permission")
    assert "100 did not (90 of them were not tried)" in answer["detailed_status"]
    assert len(names(stack, job_id, "state=FAILED")) == 10
    assert len(names(stack, job_id, "state=WAITING")) == 90


def test_a_cancellation_says_how_far_it_came(stack: Stack, target: Target) -> None:
    with stack.client() as client:
        with frozen(stack, "gridftp-destination"):
            job_id = client.submit("tree-30-2000", target.url)
            until(lambda: stack.copied_by_fts(job_id), "copies have begun")
            assert stack.curl("/cancelTransfer", "-d", f"job_id={job_id}").status in {200, 202}
            answer = client.wait(job_id, timeout=400)
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


Post = Callable[..., Answer]


@pytest.fixture
def staged(stack: Stack, target: Target, tmp_path: Path) -> Iterator[tuple[str, Post]]:
    """A job whose tree is staged without a word from the stager; and what reports on it.

    `files` come first in the JSON.
    """
    with stack.client() as client:
        job_id = client.submit("silent-tree-5-100", target.url)
    caller = Caller(stack)
    known = caller.staged(job_id)
    wait_long_for_the_report(stack, job_id)
    fields = {
        name: known[name] for name in ("job_id", "product_id", "authcode", "staged_to", "path")
    } | {"success": True}

    def post(files: object, user: str = "stager", **changes: object) -> Answer:
        document = tmp_path / "report.json"
        document.write_text(json.dumps({"files": files} | fields | changes))
        return caller.report({}, document=document, user=user)

    yield job_id, post
    stack.given_up(job_id)  # none of the next test joins its staging


def listed(*names: str) -> list[dict[str, object]]:
    return [{"name": name, "size": 100} for name in names]


def test_a_report_counts_whole_and_once(stack: Stack, staged: tuple[str, Post]) -> None:
    job_id, post = staged
    all_files = listed(*tree("tree-5-100").names)
    assert post(all_files[:4] + listed("../x")).status == 400
    assert (
        "has an empty, . or .. part"
        in stack.curl(f"/transferStatus?job_id={job_id}").document["stager_status"]
    )
    answers = [post(all_files), post(all_files)]
    assert [answer.status for answer in answers] == [200, 200]
    assert [post(all_files[:4]).status, post(all_files, authcode="0" * 32).status] == [403, 403]
    with stack.client() as client:
        answer = client.wait(job_id, timeout=400)
    assert (answer["status"], answer["files_total"], answer["files_done"]) == ("SUCCESS", 5, 5)


def test_what_a_report_may_not_be(stack: Stack, staged: tuple[str, Post]) -> None:
    job_id, post = staged
    refused: dict[str, tuple[object, int]] = {
        "files is empty": ([], 400),
        "the parameter files must be an array": ("a", 400),
        "item 2 must be an object": ([*listed("a"), ["b"]], 400),
        "item 1 must be an object of name, size and checksum": ([{"name": "a", "mode": 7}], 400),
        "the name of item 1 must be a string": ([{"name": 7}], 400),
        "the size of 'a' must be a number of bytes": ([{"name": "a", "size": True}], 400),
        "the size of 'b' must be": ([{"name": "b", "size": -1}], 400),
        "the size of 'c' must be": ([{"name": "c", "size": 2**63}], 400),
        "the size of 'd' must be": ([{"name": "d", "size": "1"}], 400),
        "the checksum of 'a' must be ADLER32": ([{"name": "a", "checksum": "MD5:00"}], 400),
        "'a' comes twice": (listed("a", "a"), 400),
        "more than 100000 files": ([{"name": str(number)} for number in range(100_001)], 400),
        "larger than 16777216 bytes": (["x" * 2**24], 413),
    }
    for said, (files, status) in refused.items():
        answer = post(files)
        assert (answer.status, said in answer.document["msg"]) == (status, True), answer
    assert post(listed("a"), user="alice").status == 403
    (found,) = stack.query("SELECT report, time_staged FROM jobs WHERE job_id = %s", job_id)
    assert found == (None, None)
    assert stack.query("SELECT COUNT(*) FROM job_files WHERE job_id = %s", job_id) == [(0,)]
    stack.curl("/cancelTransfer", "-d", f"job_id={job_id}")


def test_a_long_report_is_taken_while_others_are_served(
    stack: Stack, staged: tuple[str, Post]
) -> None:
    """Far longer than other bodies may be."""
    job_id, post = staged
    names = [f"nothing/{'x' * 40}/{number:06}" for number in range(100_000)]
    answer = post([{"name": name, "size": 1, "checksum": "ADLER32:00000001"} for name in names])
    assert answer.status == 200, answer

    def shown() -> dict[str, Any]:
        return stack.curl(f"/transferStatus?job_id={job_id}").document

    until(lambda: "files_total" in shown(), "the job has what was reported")
    status = shown()
    assert (status["files_total"], status["bytes_total"]) == (100_000, 100_000)
    assert stack.curl("/cancelTransfer", "-d", f"job_id={job_id}").status in {200, 202}

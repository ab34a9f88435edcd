"""Products of many files: they arrive with their directories, or it is said which did not."""

from __future__ import annotations

from pathlib import Path

import pytest
from deliv_testbed.trees import Tree, tree_of
from support.running_stack import Stack, Target, until


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


def tree(product_id: str) -> Tree:
    found = tree_of(product_id)
    assert found is not None
    return found


def assert_whole(place: Path, expected: Tree) -> None:
    names = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    assert names == set(expected.names)
    for number, name in enumerate(expected.names, 1):
        assert (place / name).read_bytes() == b"".join(expected.chunks(number))

"""Products of many files on a running stack: what arrived, how often, and what deliv says of it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from deliv_testbed.trees import Tree, tree_of

from support.running_stack import Stack, Target, until

COUNTS = re.compile(r"([\d,]+) files? arrived whole, ([\d,]+) may be there in part, ([\d,]+) not")


def tree(product_id: str) -> Tree:
    found = tree_of(product_id)
    assert found is not None
    return found


def files_below(place: Path) -> set[str]:
    return {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}


def assert_whole(place: Path, expected: Tree) -> None:
    assert files_below(place) == set(expected.names)
    assert whole_files(place, expected) == set(expected.names)


def whole_files(place: Path, expected: Tree) -> set[str]:
    """Those that are there byte for byte."""
    return {
        name
        for number, name in enumerate(expected.names, 1)
        if (place / name).is_file()
        and (place / name).read_bytes() == b"".join(expected.chunks(number))
    }


def names(stack: Stack, job_id: str, query: str) -> set[str]:
    return set(listed(stack, job_id, query))


def listed(stack: Stack, job_id: str, query: str) -> dict[str, dict[str, Any]]:
    """What /transferFiles says, by name, of all pages; no file is on two."""
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = stack.curl(f"/transferFiles?job_id={job_id}&{query}{more}").document
        found += page["files"]
        cursor = page["next"]
    by_name = {file["name"]: file for file in found}
    assert len(by_name) == len(found)
    return by_name


def wait_long_for_the_report(stack: Stack, job_id: str) -> None:
    """Its time is not over before the test has reported what it wants, on a busy machine."""
    sql = "SELECT 1 FROM jobs WHERE job_id = %s AND stager_accepted IS NOT NULL"
    until(lambda: stack.query(sql, job_id), "the stager has accepted")
    sql = "UPDATE stagings SET accepted = NOW(6) + INTERVAL 1 HOUR WHERE staging_id = %s"
    stack.query(sql, stack.staging_id(job_id))


def finished_at_fts(stack: Stack, job_id: str) -> int:
    """How many of the job's files FTS has copied so far."""
    return sum(state == "FINISHED" for _, state in records_of_fts(stack, job_id))


def records_of_fts(stack: Stack, job_id: str) -> list[tuple[str, str]]:
    """Destination and state of each file in each transfer that FTS has for the job."""
    sql = "SELECT dest_surl, file_state, job_metadata FROM files JOIN jobs USING (job_id)"
    with closing(sqlite3.connect(f"file:{stack.directory}/fts/fts.sqlite?mode=ro", uri=True)) as db:
        rows = db.execute(sql).fetchall()
    return [
        (url, state) for url, state, text in rows if json.loads(text).get("deliv_job_id") == job_id
    ]


def writes_below(stack: Stack, place: Path) -> Counter[str]:
    """How often the destination's GridFTP server began to receive each file there, by its log."""
    log = stack.directory / "log" / "gridftp-destination.log"
    begun = re.findall(
        rf'Starting to transfer "{re.escape(str(place))}/(.+)"',
        log.read_text(encoding="utf-8", errors="replace"),
    )
    return Counter(begun)


def delivered_between_kills(
    stack: Stack, target: Target, product: str, at_fts: int, kills: int
) -> None:
    """Each file is copied once, though deliv is killed so often; and its report counts once.

    First while the report is stored, then whenever so many more files have been copied: more than
    FTS is given at once, `at_fts`. It goes on with what it has, and may end that before deliv is
    back.
    """
    files_between = tree(product).files // (kills + 1)
    assert files_between > at_fts, "the job could end before the last kill"
    with stack.client() as client:
        job_id = client.submit(product, target.url)
    wait_long_for_the_report(stack, job_id)
    for kill in range(kills):
        if kill == 0:
            until(lambda: reported(stack, job_id), "the report is being stored", timeout=600)
        else:
            wanted = kill * files_between
            until(
                lambda wanted=wanted: finished_at_fts(stack, job_id) >= wanted,
                f"{wanted} files are copied",
                timeout=900,
            )
        assert ended_at(stack, job_id) is None
        stack.control("kill", "deliv@1")
        stack.control("start", "deliv@1")
    assert_each_file_was_copied_once(stack, job_id, target, product)


def assert_each_file_was_copied_once(
    stack: Stack, job_id: str, target: Target, product: str
) -> None:
    """By one attempt; when it has ended."""
    expected, place = tree(product), target.directory / product
    with stack.client() as client:
        answer = client.wait(job_id, timeout=1800)
    assert (answer["status"], answer["attempt"]) == ("SUCCESS", 1), answer
    assert (answer["files_total"], answer["files_done"]) == (expected.files, expected.files)
    assert_whole(place, expected)
    records = Counter(url for url, _ in records_of_fts(stack, job_id))
    assert (len(records), set(records.values())) == (expected.files, {1})
    until(lambda: len(writes_below(stack, place)) == expected.files, "the server logs every copy")
    assert set(writes_below(stack, place).values()) == {1}
    assert_one_report(stack, job_id, expected.files)


def reported(stack: Stack, job_id: str) -> bool:
    return bool(stack.query("SELECT 1 FROM job_files WHERE job_id = %s LIMIT 1", job_id))


def ended_at(stack: Stack, job_id: str) -> object:
    ((ended,),) = stack.query(
        "SELECT COALESCE(time_success, time_error, time_cancelled) FROM jobs WHERE job_id = %s",
        job_id,
    )
    return ended


def assert_one_report(stack: Stack, job_id: str, files: int) -> None:
    """One counts, once. Of one that was being stored when deliv died rows may be left."""
    sql = "SELECT COUNT(*) FROM job_files JOIN jobs USING (job_id, report) WHERE job_id = %s"
    assert stack.query(sql, job_id) == [(files,)]
    events = stack.query("SELECT status FROM job_events WHERE job_id = %s", job_id)
    found = Counter(status for (status,) in events)
    assert (found["TRANSFERRING"], found["SUCCESS"]) == (1, 1), events


def assert_counts_are_true(stack: Stack, answer: dict[str, Any], target: Target) -> None:
    """What an ended job says of its files is so on the disk, and stays so."""
    job_id = answer["job_id"]
    directory = answer["files_directory"].rpartition("/")[2]
    expected, place = tree(directory), target.directory / directory
    found = COUNTS.search(answer["detailed_status"])
    assert found is not None, answer
    whole, parts, absent = (int(number.replace(",", "")) for number in found.groups())
    finished = names(stack, job_id, "state=FINISHED&limit=100")
    others = listed(stack, job_id, "state=FAILED&limit=100")
    others |= listed(stack, job_id, "state=WAITING&limit=100")
    partial = {name for name, file in others.items() if file["partial"]}
    never = others.keys() - partial
    assert names(stack, job_id, "state=ASSIGNED") == set()
    assert (len(finished), len(partial), len(never)) == (whole, parts, absent)
    assert whole == answer["files_done"]
    assert finished | partial | never == set(expected.names)
    with stack.client() as client:  # meanwhile what was still under way would land
        later = client.submit("tree-30-10", target.url)
        assert client.wait(later, timeout=300)["status"] == "SUCCESS"
    assert finished <= whole_files(place, expected)
    assert not never & files_below(place)
    assert {state for _, state in records_of_fts(stack, job_id)} <= {"FINISHED", "CANCELED"}

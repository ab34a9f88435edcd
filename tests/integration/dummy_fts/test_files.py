"""The dummy FTS with jobs of many files, and what else a real one does with files."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from integration.dummy_fts.copying import (
    CLOSED,
    CONTENT,
    SIZE,
    UNKNOWN_HOST,
    arrived,
    settings,
    submitted,
)
from integration.private_fts import UNKNOWN, Client, Fts, silent_port, wait_for

FAILED = "One or more files failed. Please have a look at the details for more information"
CANCELED = "Job canceled by the user"
MANY = 10_000


@contextmanager
def frozen(fts: Fts) -> Iterator[None]:
    """Nothing arrives at the destination; a strict copy is ACTIVE and waits there."""
    fts.processes.freeze(fts.destination.name)
    try:
        yield
    finally:
        fts.processes.thaw(fts.destination.name)


def pairs(fts: Fts, names: list[str], source: str = "small") -> list[dict[str, Any]]:
    return [
        {"sources": [fts.at_source(source)], "destinations": [fts.at_destination(name)]}
        for name in names
    ]


def submit(client: Client, files: list[dict[str, Any]], **params: Any) -> str:
    return submitted(client.submit({"files": files, "params": params}))


def files_of(client: Client, job: str) -> list[dict[str, Any]]:
    return list(client.get(f"/jobs/{job}/files").content)


def states(client: Client, job: str) -> list[str]:
    return [file["file_state"] for file in files_of(client, job)]


def reason(client: Client, job: str) -> Any:
    return client.get(f"/jobs/{job}").content["reason"]


def is_there(fts: Fts, name: str) -> bool:
    return (fts.destination.root / name).exists() and arrived(fts, name) == CONTENT


# --- a plain job


def test_files_are_copied_side_by_side_up_to_the_limit_of_their_hosts(
    fts: Fts, alice: Client
) -> None:
    with silent_port() as port:
        source = f"gsiftp://127.0.0.1:{port}/x"
        files = pairs(fts, [f"beside-{number}" for number in range(5)])
        job = submit(alice, [{**file, "sources": [source]} for file in files])
        wait_for(lambda: Counter(states(alice, job))["READY"] == 2)
        assert states(alice, job) == ["READY"] * 2 + ["SUBMITTED"] * 3
        assert alice.state(job) == "ACTIVE"
        alice.delete(f"/jobs/{job}")


def test_a_failure_stops_nothing(fts: Fts, alice: Client) -> None:
    names = ["one", "two", "three"]
    files = pairs(fts, ["missing"], "nosuch") + pairs(fts, [f"dirty/{name}" for name in names])
    job = submit(alice, files)
    assert alice.ended(job) == "FINISHEDDIRTY", files_of(alice, job)
    assert states(alice, job) == ["FAILED"] + ["FINISHED"] * 3
    assert reason(alice, job) == FAILED
    assert all(is_there(fts, f"dirty/{name}") for name in names)


def test_all_files_fail(fts: Fts, alice: Client) -> None:
    job = submit(alice, pairs(fts, ["a", "b"], "nosuch"))
    assert alice.ended(job) == "FAILED"
    assert reason(alice, job) == FAILED


def test_a_job_ends_after_its_files(fts: Fts, alice: Client) -> None:
    """Its state is written once in a round, of which the first starts the copies."""
    with settings(fts, slots=0):
        job = submit(alice, pairs(fts, ["lags/1", "lags/2"]))
        with settings(fts, interval=3600):
            wait_for(lambda: states(alice, job) == ["FINISHED"] * 2)
            found = alice.get(f"/jobs/{job}").content
            assert (found["job_state"], found["job_finished"]) == ("ACTIVE", None)
        assert alice.ended(job) == "FINISHED"
        assert reason(alice, job) == ""


def test_the_optimizer_raises_the_limit_while_enough_files_wait(fts: Fts, alice: Client) -> None:
    with (
        settings(fts, slots=1, most_slots=3, optimizer_interval=0.01),
        silent_port() as port,
    ):
        source = f"gsiftp://127.0.0.1:{port}/x"
        files = pairs(fts, [f"more-{number}" for number in range(3)])
        job = submit(alice, [{**file, "sources": [source]} for file in files])
        wait_for(lambda: Counter(states(alice, job))["READY"] == 2)
        assert states(alice, job)[2] == "SUBMITTED"
        alice.delete(f"/jobs/{job}")


def connections(fts: Fts) -> int:
    """How many the destination has had."""
    log = fts.processes.log(fts.destination.name).read_text(encoding="utf-8")
    return log.count("New connection from")


def test_small_files_need_no_login_each(fts: Fts, alice: Client) -> None:
    """Of what a copy of 1 kB costs, a login at the destination is nearly all."""
    with settings(fts, slots=1, idle=600):
        warm = submit(alice, pairs(fts, ["warm/0", "warm/1"]))
        assert alice.ended(warm) == "FINISHED", files_of(alice, warm)
        before = connections(fts)
        names = [f"warm/{number}" for number in range(2, 12)]
        job = submit(alice, pairs(fts, names), verify_checksum="both")
        assert alice.ended(job) == "FINISHED", files_of(alice, job)
        assert connections(fts) - before < len(names) / 2  # gfal2 gives up one now and then
        assert all(is_there(fts, name) for name in names)


# --- what is shown of files


def test_chosen_fields_of_files(fts: Fts, alice: Client) -> None:
    fields = "files=file_state,nosuchfield,dest_surl"
    with settings(fts, slots=0):
        one = submit(alice, pairs(fts, ["shown-1", "shown-2"]))
        two = submit(alice, pairs(fts, ["shown-3"]))
        expected = [
            {"file_state": "SUBMITTED", "dest_surl": fts.at_destination(name)}
            for name in ("shown-1", "shown-2", "shown-3")
        ]
        assert alice.get(f"/jobs/{one}?{fields}").content["files"] == expected[:2]
        both = alice.get(f"/jobs/{two},{one}?{fields}").content
        assert [job["files"] for job in both] == [expected[2:], expected[:2]]
        assert alice.get(f"/jobs/{one}?files=nosuchfield").content["files"] == [{}, {}]
        assert "files" not in alice.get(f"/jobs/{one}").content
        (whole,) = files_of(alice, two)
        assert len(whole) == 42
        unknown = [whole[name] for name in ("filesize", "throughput", "reason", "start_time")]
        assert unknown == [None] * 4
        alice.delete(f"/jobs/{one},{two}")


def test_the_files_of_many_jobs_in_one_look(fts: Fts, alice: Client) -> None:
    """Less than 60 bytes a file; a job that is not there has none, and hides no other."""
    with settings(fts, slots=0):
        jobs = [
            submit(alice, pairs(fts, [f"look/{job}/{number}" for number in range(200)]))
            for job in range(20)
        ]
        answer = alice.get(f"/jobs/{','.join(jobs)}?files=file_id,file_state")
        assert answer.status == 200
        assert [job["job_id"] for job in answer.content] == jobs
        files = [file for job in answer.content for file in job["files"]]
        assert len({file["file_id"] for file in files}) == 20 * 200
        assert {file["file_state"] for file in files} == {"SUBMITTED"}
        assert len(answer.body) < 60 * len(files) + 2_000 * len(jobs)
        answer = alice.get(f"/jobs/{jobs[0]},{UNKNOWN},{jobs[1]}?files=file_id,file_state")
        assert answer.status == 207
        one, unknown, two = answer.content
        assert [len(job["files"]) for job in (one, two)] == [200, 200]
        assert "files" not in unknown and unknown["http_status"] == "404 Not Found"
        alice.delete(f"/jobs/{','.join(jobs)}")


def test_unfinished_files(fts: Fts, alice: Client) -> None:
    """A `limit` is not heeded, and a `time_window` is more than FTS can take."""
    with settings(fts, slots=0):
        names = ["open-1", "open-2"]
        job = submit(alice, pairs(fts, names))

        def found(client: Client, query: str = "") -> list[str]:
            files = client.get(f"/files?{query}").content
            return [file["dest_surl"] for file in files if file["job_id"] == job]

        urls = [fts.at_destination(name) for name in names]
        assert found(alice) == found(alice, "limit=1") == urls
        assert found(alice, "state_in=ACTIVE,READY") == []
        assert found(alice, f"dest_surl={urls[1]}") == urls[1:]
        assert found(alice, "source_se=gsiftp://elsewhere") == []
        assert found(fts.delegated("bob")) == []
        assert alice.get("/files").content[0].keys() == files_of(alice, job)[0].keys()
        assert alice.get("/files?time_window=1").status == 500
        assert fts.client(None).get("/files").status == 403
        alice.delete(f"/jobs/{job}")
        assert found(alice) == []


def memory(fts: Fts) -> int:
    """The most that the server has taken by now, in bytes."""
    status = Path(f"/proc/{fts.processes.pid('fts')}/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_ten_thousand_files_in_one_job(fts: Fts, alice: Client) -> None:
    with settings(fts, slots=0):
        alice.get("/whoami")
        before = memory(fts)
        job = submit(alice, pairs(fts, [f"many/{number}" for number in range(MANY)]))
        shown = alice.get(f"/jobs/{job}?files=file_id,file_state").content["files"]
        assert len({file["file_id"] for file in shown}) == MANY
        assert {file["file_state"] for file in shown} == {"SUBMITTED"}
        assert len(files_of(alice, job)) == MANY
        assert len(alice.get("/files").content) == 1000
        answer = alice.delete(f"/jobs/{job}")
        assert (answer.status, answer.content["job_state"]) == (200, "CANCELED")
        assert set(states(alice, job)) == {"CANCELED"}
        assert memory(fts) - before < MANY * 12_000


# --- canceling


def test_a_queued_file_is_canceled(fts: Fts, alice: Client) -> None:
    with settings(fts, slots=0):
        job = submit(alice, pairs(fts, ["queue-1", "queue-2", "queue-3"]))
        other = submit(alice, pairs(fts, ["queue-4"]))
        one, two, three = (file["file_id"] for file in files_of(alice, job))
        (four,) = (file["file_id"] for file in files_of(alice, other))
        foreign = "File does not belong to the job"
        assert alice.delete(f"/jobs/{job}/files/{one}").content == "CANCELED"
        assert alice.delete(f"/jobs/{job}/files/{four}").content == foreign
        assert states(alice, job) == ["CANCELED", "SUBMITTED", "SUBMITTED"]
        first = files_of(alice, job)[0]
        assert (first["reason"], first["finish_time"] is None) == (None, False)
        assert alice.state(job) == "SUBMITTED"
        answer = alice.delete(f"/jobs/{job}/files/{two},{four},{three}")
        assert (answer.status, answer.content) == (200, ["CANCELED", foreign, "CANCELED"])
        assert (alice.state(job), reason(alice, job)) == ("CANCELED", None)
        assert alice.state(other) == "SUBMITTED"
        alice.delete(f"/jobs/{other}")


def test_an_active_file_that_is_canceled_arrives(fts: Fts, alice: Client) -> None:
    """The copy is not stopped, not by the end of its job either."""
    with frozen(fts):
        job = submit(alice, pairs(fts, ["active-1", "active-2"]), strict_copy=True)
        wait_for(lambda: states(alice, job) == ["ACTIVE"] * 2)
        one = files_of(alice, job)[0]
        assert (one["filesize"], one["throughput"], one["finish_time"]) == (SIZE, 0.0, None)
        assert alice.delete(f"/jobs/{job}/files/{one['file_id']}").content == "CANCELED"
        assert states(alice, job) == ["CANCELED", "ACTIVE"]
        assert alice.state(job) == "ACTIVE"
    wait_for(lambda: is_there(fts, "active-1") and is_there(fts, "active-2"))
    assert alice.ended(job) == "CANCELED"
    assert states(alice, job) == ["CANCELED", "FINISHED"]
    assert reason(alice, job) == FAILED
    assert files_of(alice, job)[0]["pid"] == one["pid"]


def test_a_job_is_canceled_with_active_and_queued_files(fts: Fts, alice: Client) -> None:
    """All but a file that was canceled before: its copy runs on."""
    with frozen(fts):
        names = [f"whole-{number}" for number in range(3)]
        job = submit(alice, pairs(fts, names), strict_copy=True)
        wait_for(lambda: states(alice, job) == ["ACTIVE", "ACTIVE", "SUBMITTED"])
        first = files_of(alice, job)[0]
        alice.delete(f"/jobs/{job}/files/{first['file_id']}")
        wait_for(lambda: states(alice, job) == ["CANCELED", "ACTIVE", "ACTIVE"])
        last = submit(alice, pairs(fts, ["whole-3"]), strict_copy=True)
        answer = alice.delete(f"/jobs/{job},{last}")
        assert [found["job_state"] for found in answer.content] == ["CANCELED"] * 2
        assert states(alice, job) == ["CANCELED"] * 3
        wait_for(lambda: all(file["finish_time"] for file in files_of(alice, job)))
        reasons = [file["reason"] for file in files_of(alice, job)]
        assert reasons == ["", CANCELED, CANCELED]
        (queued,) = files_of(alice, last)
        assert (queued["reason"], queued["start_time"]) == (CANCELED, None)
    wait_for(lambda: is_there(fts, names[0]))
    assert not any(is_there(fts, name) for name in [*names[1:], "whole-3"])
    again = alice.delete(f"/jobs/{job}")
    assert (again.status, again.content["http_status"]) == (200, "304 Not Modified")


def test_a_canceled_job_is_stopped_in_the_next_round(fts: Fts, alice: Client) -> None:
    """Until then its copies run, and their `finish_time` is null."""
    with settings(fts, slots=0):
        job = submit(alice, pairs(fts, ["signal"]), strict_copy=True)
        with frozen(fts), settings(fts, interval=3600):
            wait_for(lambda: states(alice, job) == ["ACTIVE"])
            assert alice.delete(f"/jobs/{job}").content["job_state"] == "CANCELED"
            (file,) = files_of(alice, job)
            shown = [file[name] for name in ("file_state", "reason", "finish_time")]
            assert shown == ["CANCELED", CANCELED, None]
            assert Path(f"/proc/{file['pid']}/cmdline").read_bytes()
        wait_for(lambda: files_of(alice, job)[0]["finish_time"])
        assert states(alice, job) == ["CANCELED"]
        assert not is_there(fts, "signal")


# --- session reuse


def test_a_reuse_job_is_copied_in_order_by_one_process(fts: Fts, alice: Client) -> None:
    """And takes one slot: the other one is free."""
    names = [f"row-{number}" for number in range(3)]
    with frozen(fts), silent_port() as port:
        job = submit(alice, pairs(fts, names), reuse=True, strict_copy=True)
        wait_for(lambda: states(alice, job) == ["ACTIVE", "READY", "READY"])
        (pid,) = {file["pid"] for file in files_of(alice, job)}
        assert pid
        source = f"gsiftp://127.0.0.1:{port}/x"
        beside = submit(alice, [{**pairs(fts, ["beside"])[0], "sources": [source]}])
        wait_for(lambda: states(alice, beside) == ["READY"])
        alice.delete(f"/jobs/{beside}")
    assert alice.ended(job) == "FINISHED", files_of(alice, job)
    assert all(is_there(fts, name) for name in names)
    assert {file["pid"] for file in files_of(alice, job)} == {pid}
    times = [(fts.destination.root / name).stat().st_mtime_ns for name in names]
    assert times == sorted(times)


def test_files_of_a_reuse_job_are_not_canceled_one_by_one(fts: Fts, alice: Client) -> None:
    with settings(fts, slots=0):
        job = submit(alice, pairs(fts, ["reuse-1", "reuse-2"]), reuse=True)
        answer = alice.delete(f"/jobs/{job}/files/{files_of(alice, job)[0]['file_id']}")
        assert answer.status == 400
        assert answer.content["message"] == ("Multihop or reuse jobs must be cancelled at once (Y)")
        alice.delete(f"/jobs/{job}")


# --- what gfal2 finds


def test_directories_that_may_not_be_made(fts: Fts, alice: Client) -> None:
    closed = fts.destination.root / "no-mkdir"
    closed.mkdir()
    fts.account.own(closed)
    closed.chmod(0o555)
    job = submit(alice, pairs(fts, ["no-mkdir/deep/er/file"]))
    assert alice.ended(job) == "FAILED"
    (file,) = files_of(alice, job)
    assert file["reason"].startswith("TRANSFER [13] ")
    assert "c=PERMISSION_DENIED" in file["reason"]
    assert "System error in mkdir" in file["reason"]


def test_missing_directories_are_made_for_their_owner_alone(fts: Fts, alice: Client) -> None:
    job = submit(alice, pairs(fts, ["made/by/fts/file"]))
    assert alice.ended(job) == "FINISHED", files_of(alice, job)
    for directory in ("made", "made/by", "made/by/fts"):
        assert (fts.destination.root / directory).stat().st_mode & 0o777 == 0o700, directory


def test_a_strict_copy_makes_no_directories(fts: Fts, alice: Client) -> None:
    job = submit(alice, pairs(fts, ["strict/file"]), strict_copy=True)
    assert alice.ended(job) == "FAILED"
    assert "No such file or directory" in files_of(alice, job)[0]["reason"]
    assert not (fts.destination.root / "strict").exists()


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """A mebibyte; skipped where it may not be mounted, which fails in CI."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", directory]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode and not os.environ.get("DELIV_TESTS_REQUIRE"):
        pytest.skip(f"no small disk: {done.stderr}")
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True, timeout=30)


def test_a_full_disk(fts: Fts, alice: Client) -> None:
    """What was written is removed, and a smaller file still fits."""
    fts.put_source("large", 2**22)
    full = fts.destination.root / "full"
    with small_disk(full):
        job = submit(alice, pairs(fts, ["full/large"], "large"))
        assert alice.ended(job) == "FAILED"
        (file,) = files_of(alice, job)
        assert file["reason"].startswith("TRANSFER [")  # in the words of the end that spoke first
        assert os.listdir(full) == []
        after = submit(alice, pairs(fts, ["full/small"]))
        assert alice.ended(after) == "FINISHED", files_of(alice, after)


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        (UNKNOWN_HOST, "Name or service not known"),
        (CLOSED, "System error in connect: Connection refused"),
    ],
)
def test_a_destination_that_is_not_there(
    fts: Fts, alice: Client, destination: str, words: str
) -> None:
    job = submit(alice, [{"sources": [fts.at_source("small")], "destinations": [destination]}])
    assert alice.ended(job) == "FAILED"
    (file,) = files_of(alice, job)
    assert file["reason"].startswith("DESTINATION [70] globus_xio: Unable to connect to ")
    assert words in file["reason"]

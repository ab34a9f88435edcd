"""What the dummy FTS keeps of jobs, and what it makes of their files' ends."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deliv_testbed.fts import clock, reasons, submission, transferlog
from deliv_testbed.fts.caller import Caller
from deliv_testbed.fts.database import Duplicate, FtsDatabase
from deliv_testbed.fts.scheduler import job_state
from deliv_testbed.fts.settings import FtsSettings
from deliv_testbed.settings import read

from deliv.errors import ConfigError

ALICE = Caller(user_dn="/CN=alice")
NEEDED = {
    "host": "127.0.0.1", "port": 1, "certificate": "c", "key": "k", "ca_directory": "ca",
    "state": "s",
}  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Iterator[FtsDatabase]:
    database = FtsDatabase(tmp_path / "fts.sqlite")
    yield database
    database.close()


def add(
    database: FtsDatabase,
    *,
    check: bool = False,
    caller: Caller = ALICE,
    count: int = 1,
    **params: Any,
) -> str:
    """A job of this many files."""
    file = {"sources": ["gsiftp://a/x"], "destinations": ["gsiftp://b/x"]}
    checking = FtsSettings(**NEEDED, check_duplicates=check)
    job, files = submission.build({"files": [file] * count, "params": params}, caller, checking)
    database.insert(job, files)
    return str(job["job_id"])


def test_a_job_is_there_once(database: FtsDatabase) -> None:
    add(database, id_generator="deterministic", sid="one")
    with pytest.raises(Duplicate) as caught:
        add(database, id_generator="deterministic", sid="one")
    assert caught.value.column == "job_id"


def test_a_destination_is_taken_until_its_file_ends(database: FtsDatabase) -> None:
    job = add(database, check=True)
    with pytest.raises(Duplicate) as caught:
        add(database, check=True)
    assert caught.value.column == "dest_surl_uuid"
    assert len(database.jobs(equal={})) == 1
    database.cancel_files(job, ["SUBMITTED"], "why", clock.now())
    add(database, check=True)


def test_another_connection_sees_what_was_written(database: FtsDatabase, tmp_path: Path) -> None:
    """As a server does that starts after a SIGKILL."""
    job = add(database, job_metadata={"á": ["b"]})
    second = FtsDatabase(tmp_path / "fts.sqlite")
    found = second.job(job)
    assert found is not None
    assert found["job_metadata"] == {"á": ["b"], "auth_method": "certificate"}
    assert found["cancel_job"] is False
    second.close()


def test_a_transaction_is_all_or_nothing(database: FtsDatabase) -> None:
    job = add(database)
    with pytest.raises(ZeroDivisionError), database.transaction():
        database.update_job(job, priority=5)
        with database.transaction():
            database.update_job(job, priority=4)
        raise ZeroDivisionError
    found = database.job(job)
    assert found is not None
    assert found["priority"] == 3


def test_the_highest_priority_waiting_is_eligible_alone(database: FtsDatabase) -> None:
    """Be it of a file that waits for its retry; another VO's does not count."""
    first, second, urgent = (add(database, priority=priority) for priority in (2, 2, 4))
    other = add(database, caller=Caller(user_dn="/CN=bob"))
    held = add(database, priority=5)
    (file,) = database.files(held)
    database.update_file(file["file_id"], _not_before=1000.0)
    (link,) = database.links()
    assert link == {
        "source_se": "gsiftp://a", "dest_se": "gsiftp://b", "waiting": 5, "active": 0
    }  # fmt: skip

    def eligible(epoch: float, limit: int = 10) -> list[str]:
        return [file["job_id"] for file in database.eligible(link, epoch, limit)]

    assert eligible(500.0) == [other]
    assert eligible(1500.0) == [held, other]
    assert eligible(1500.0, 1) == [held]
    database.update_file(file["file_id"], file_state="ACTIVE")
    assert database.links() == [{**link, "waiting": 4, "active": 1}]
    assert eligible(500.0) == [urgent, other]
    (file,) = database.files(urgent)
    database.update_file(file["file_id"], file_state="ACTIVE")
    assert eligible(500.0) == [other, first, second]


def test_whoever_queued_first_is_served_first(database: FtsDatabase) -> None:
    """There is no share for each user, only what a job's priority says."""
    many = add(database, count=50)
    single = add(database, caller=Caller(user_dn="/CN=bob"))
    (link,) = database.links()
    order = [file["job_id"] for file in database.eligible(link, 0.0, 100)]
    assert order == [many] * 50 + [single]
    urgent = add(database, caller=Caller(user_dn="/CN=bob"), priority=4)
    assert [file["job_id"] for file in database.eligible(link, 0.0, 2)] == [urgent, many]


def test_a_job_of_many_files_is_stored_whole_or_not_at_all(database: FtsDatabase) -> None:
    """Its destinations are the same one, where each may be there once."""
    with pytest.raises(Duplicate):
        add(database, check=True, count=100)
    assert database.jobs(equal={}) == []
    job = add(database, count=100)
    assert [file["file_index"] for file in database.files(job)] == list(range(100))
    assert list(database.each_file(job, ["file_index"]))[7] == {"file_index": 7}


def test_a_job_is_to_end_with_its_last_file(database: FtsDatabase) -> None:
    job = add(database, count=2)
    one, two = (file["file_id"] for file in database.files(job))
    database.update_job(job, job_state="ACTIVE")
    database.update_file(one, file_state="FAILED")
    assert database.jobs_to_end() == []
    database.update_file(two, file_state="CANCELED")
    assert database.jobs_to_end() == [job]
    database.update_job(job, job_state=job_state(database.file_states(job)))
    assert database.jobs_to_end() == []


def test_only_names_can_be_columns(database: FtsDatabase) -> None:
    with pytest.raises(ValueError, match="can't be a column"):
        database.update_job("x", **{"reason = 1; --": 1})


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["FINISHED"] * 3, "FINISHED"),
        (["FAILED"] * 2, "FAILED"),
        (["CANCELED"], "CANCELED"),
        (["FINISHED", "FAILED"], "FINISHEDDIRTY"),
        (["FINISHED", "CANCELED"], "CANCELED"),
        (["FAILED", "CANCELED"], "FAILED"),
        (["FINISHED", "FAILED", "CANCELED"], "FINISHEDDIRTY"),
    ],
)
def test_the_state_of_a_job(states: list[str], state: str) -> None:
    assert job_state(set(states)) == state


@pytest.mark.parametrize(
    ("scope", "code", "message", "again"),
    [
        ("SOURCE", 70, "Connection refused", True),
        ("SOURCE", errno.ENOENT, "No such file or directory", False),
        ("SOURCE", errno.EACCES, "", False),
        ("DESTINATION", errno.EEXIST, "Destination file exists", False),
        ("TRANSFER", errno.ENOSPC, "", False),
        ("TRANSFER", errno.ETIMEDOUT, "", True),
        ("TRANSFER", 5, "CHECKSUM MISMATCH", False),
        ("TRANSFER", errno.EACCES, "an end-of-file was reached", True),
    ],
)
def test_what_is_tried_again(scope: str, code: int, message: str, again: bool) -> None:
    assert reasons.recoverable(scope, code, message) is again


def test_the_form_of_a_reason() -> None:
    assert reasons.reason("SOURCE", 2, "words") == "SOURCE [2] words"


def test_times_go_there_and_back() -> None:
    assert clock.text(clock.epoch("2026-11-24T05:49:08")) == "2026-11-24T05:49:08"


def test_the_log_of_a_copy(tmp_path: Path) -> None:
    file = {"source_se": "gsiftp://a", "dest_se": "gsiftp://b", "file_id": 7, "job_id": "j"}
    path = transferlog.path(tmp_path, file)
    assert path.parent.name == "a__b"
    assert path.name.endswith("__a__b__7__j")
    transferlog.write(path, {"event": "failed", "code": 2})
    assert path.read_text().endswith(" failed code=2\n")


def test_settings(tmp_path: Path) -> None:
    path = tmp_path / "fts.json"
    path.write_text(json.dumps({**NEEDED, "slots": 3}))
    loaded = read(path, FtsSettings)
    assert (loaded.slots, loaded.state) == (3, Path("s"))
    assert (loaded.stalled_after, loaded.metadata_limit) == (900, 2048), "as at FTS"
    for wrong in ({**NEEDED, "slot": 3}, {**NEEDED, "port": "x"}, {}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ConfigError, match=r"fts\.json"):
            read(path, FtsSettings)
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "nosuch.json", FtsSettings)

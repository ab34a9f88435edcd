"""From a POST's body to the rows of a job, and what is refused on the way."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deliv_testbed.fts import submission
from deliv_testbed.fts.caller import Caller
from deliv_testbed.fts.errors import RestError
from deliv_testbed.fts.settings import FtsSettings

ALICE = Caller(user_dn="/DC=test/DC=oracle/OU=Users/CN=Alice Transfer")
SETTINGS = FtsSettings(
    host="localhost", port=1, certificate=Path("c"), key=Path("k"), ca_directory=Path("ca"),
    state=Path("s"),
)  # fmt: skip
SOURCE = "gsiftp://archive.example:2811/data/a%20b"
DESTINATION = "gsiftp://user.example/home/a%20b"


def body(*, checksum: str | None = None, **params: Any) -> dict[str, Any]:
    file: dict[str, Any] = {"sources": [SOURCE], "destinations": [DESTINATION]}
    if checksum:
        file["checksum"] = checksum
    return {"files": [file], "params": params}


def build(given: Any, **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return submission.build(given, ALICE, msgspec.structs.replace(SETTINGS, **changes))


def refusal(given: Any) -> RestError:
    with pytest.raises(RestError) as caught:
        build(given)
    return caught.value


def test_a_deterministic_id_is_known_before_the_call() -> None:
    job, _ = build(body(id_generator="deterministic", sid="deliv-tx-0001"))
    vo_id = ALICE.whoami()["vos_id"][0]  # type: ignore[index]
    assert job["job_id"] == str(uuid.uuid5(uuid.UUID(vo_id), "deliv-tx-0001"))


def test_a_sid_alone_changes_nothing() -> None:
    first, second = (build(body(sid="the same"))[0]["job_id"] for _ in range(2))
    assert first != second


def test_storages_are_hosts_without_ports() -> None:
    job, (file,) = build(body())
    assert (job["source_se"], job["dest_se"]) == (
        "gsiftp://archive.example",
        "gsiftp://user.example",
    )
    assert (file["source_surl"], file["dest_surl"]) == (SOURCE, DESTINATION)


def test_a_job_between_several_hosts_has_no_storage() -> None:
    given = body()
    given["files"].append({"sources": [SOURCE], "destinations": ["gsiftp://other.example/x"]})
    job, files = build(given)
    assert (job["source_se"], job["dest_se"]) == ("gsiftp://archive.example", None)
    assert [file["file_index"] for file in files] == [0, 1]


@pytest.mark.parametrize(
    ("given", "letter"),
    [("none", "n"), ("source", "s"), ("target", "t"), ("both", "b"), ("b", "b"), (True, "b")],
)
def test_checksum_modes(given: object, letter: str) -> None:
    assert build(body(verify_checksum=given))[0]["verify_checksum"] == letter


@pytest.mark.parametrize(
    ("checksums", "letter"),
    [
        (["ADLER32:1234abcd"], "t"),
        (["ADLER32"], "t"),
        ([""], "n"),
        ([None], "n"),
        (["ADLER32", None], "t"),
        (["ADLER32", ""], "n"),
    ],
)
def test_a_checksum_without_a_mode_is_for_the_target(
    checksums: list[str | None], letter: str
) -> None:
    file = body()["files"][0]
    given = {"files": [{**file, "checksum": checksum} for checksum in checksums]}
    assert build(given)[0]["verify_checksum"] == letter


def test_a_checksum_mode_that_is_a_number() -> None:
    assert "Malformed request" in refusal(body(verify_checksum=1)).message


def test_a_reuse_job_is_between_two_hosts() -> None:
    given = body(reuse=True)
    given["files"].append({"sources": [SOURCE], "destinations": ["gsiftp://other.example/x"]})
    assert refusal(given).message == (
        "Reuse jobs must only contain transfers for the same source ad destination storage"
    )


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (True, "Y"), (1, "Y"), ("Y", "Y"), ("y", "Y"),
        (False, "N"), (0, "N"), (None, "N"), ("N", "N"), ("auto", "N"), ("true", "N"), ("1", "N"),
        ("", "N"),
    ],
)  # fmt: skip
def test_what_asks_for_session_reuse(given: object, kind: str) -> None:
    assert build(body(reuse=given))[0]["job_type"] == kind


def test_the_same_pair_twice_is_two_files() -> None:
    given = body()
    _, files = build({**given, "files": given["files"] * 2})
    assert len({file["dest_surl"] for file in files}) == 1
    assert [file["file_index"] for file in files] == [0, 1]


@pytest.mark.parametrize(("given", "seconds"), [("24h", 86400), ("5m", 300), ("7s", 7), (2, 7200)])
def test_time_in_the_queue(given: object, seconds: int) -> None:
    before = time.time()
    expiry = build(body(max_time_in_queue=given))[0]["max_time_in_queue"]
    assert before <= expiry - seconds <= time.time() + 1


@pytest.mark.parametrize("given", [0, None, "soon", "h", ""])
def test_no_time_in_the_queue(given: object) -> None:
    assert build(body(max_time_in_queue=given))[0]["max_time_in_queue"] is None


@pytest.mark.parametrize(
    ("flag", "letter"),
    [("overwrite", "Y"), ("overwrite_on_retry", "R"), ("overwrite_hop", "M"), (None, None)],
)
def test_overwrite(flag: str | None, letter: str | None) -> None:
    params = {flag: True} if flag else {}
    assert build(body(**params))[0]["overwrite_flag"] == letter


def test_two_overwrite_flags_at_once() -> None:
    error = refusal(body(overwrite=True, overwrite_on_retry="Y"))
    assert error.message == "Incompatible overwrite flags used at the same time"


def test_metadata_comes_back_with_the_method() -> None:
    job, _ = build(body(job_metadata={"deliv": "job"}))
    assert job["job_metadata"] == {"deliv": "job", "auth_method": "certificate"}


@pytest.mark.parametrize(("size", "fits"), [(2048, True), (2049, False)])
def test_metadata_has_a_limit(size: int, fits: bool) -> None:
    given = body(job_metadata={"k": "v" * (size - len('{"k": ""}'))})
    if fits:
        build(given)
    else:
        assert "exceeds size limit of 2048" in refusal(given).message


@pytest.mark.parametrize("priority", [-1, 9])
def test_priorities_are_between_one_and_five(priority: int) -> None:
    assert build(body(priority=priority))[0]["priority"] in (1, 5)


def test_internal_parameters() -> None:
    job, _ = build(body(nostreams=2, timeout=60, buffer_size=1000, strict_copy=True))
    assert job["internal_job_params"] == "nostreams:2,timeout:60,buffersize:1000,strict"


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (None, 400, "Expecting a dictionary"),
        ({}, 400, "No transfers operations specified"),
        ({"files": []}, 400, "No valid pairs available"),
        ({"files": [{}]}, 400, "Missing parameter: 'sources'"),
        ({"files": [3]}, 400, "Malformed request"),
        ({"files": 3}, 400, "Malformed request"),
        (body(id_generator="deterministic", sid=7), 400, "Malformed request"),
        (body(retry=[]), 400, "Malformed request"),
        ({**body(), "delete": ["x"]}, 405, "Deletion jobs are no longer supported"),
        (
            {"files": [{"sources": ["gsiftp://h"], "destinations": [DESTINATION]}]},
            400,
            "Missing path (gsiftp://h)",
        ),
    ],
)
def test_refusals(given: Any, code: int, message: str) -> None:
    error = refusal(given)
    assert error.code == code
    assert message in error.message


def test_destinations_are_marked_where_duplicates_are_checked() -> None:
    _, (unchecked,) = build(body())
    _, (first,) = build(body(), check_duplicates=True)
    _, (second,) = build(body(), check_duplicates=True)
    assert unchecked["dest_surl_uuid"] is None
    assert first["dest_surl_uuid"] == second["dest_surl_uuid"] is not None

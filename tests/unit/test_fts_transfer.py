"""The body of POST /jobs, through FTS's own builders."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deliv.errors import Refused
from deliv.gateways.fts.transfer import LARGEST_METADATA, Copy, Transfer, submission

COPY = Copy(
    source="gsiftp://archive/data/a%20b",
    destination="gsiftp://user:2811/home/a%20b",
    checksum="ADLER32:0f285b8e",
    size=1000,
)
TRANSFER = Transfer(sid="job:1", copies=(COPY,), metadata={"deliv_job_id": "job"})


def of(**changes: object) -> Transfer:
    """A transfer of one file that differs in these."""
    return replace(TRANSFER, copies=(replace(COPY, **changes),))


def built(transfer: Transfer) -> tuple[dict[str, object], dict[str, object]]:
    document = json.loads(submission(transfer, max_time_in_queue="24h"))
    (file,) = document["files"]
    assert document.keys() == {"files", "params"}
    return file, document["params"]


def test_a_whole_submission() -> None:
    file, params = built(TRANSFER)
    assert file == {
        "sources": ["gsiftp://archive/data/a%20b"],
        "destinations": ["gsiftp://user:2811/home/a%20b"],
        "checksum": "ADLER32:0f285b8e",
        "filesize": 1000,
        "selection_strategy": "auto",
    }
    wanted = {
        "id_generator": "deterministic",
        "sid": "job:1",
        "verify_checksum": "both",
        "retry": -1,
        "overwrite": False,
        "max_time_in_queue": "24h",
        "job_metadata": {"deliv_job_id": "job"},
    }
    assert wanted.items() <= params.items()


def test_without_a_checksum_both_ends_are_compared_still() -> None:
    file, params = built(of(checksum=None))
    assert file["checksum"] == "ADLER32"
    assert params["verify_checksum"] == "both"


@pytest.mark.parametrize("size", [None, 0])
def test_fts_takes_no_size_for_unknown(size: int | None) -> None:
    file, _ = built(of(size=size))
    assert "filesize" not in file


def test_several_files_are_one_job_with_an_entry_each() -> None:
    empty = Copy(source="gsiftp://archive/data/e", destination="gsiftp://user/home/e", size=0)
    document = json.loads(
        submission(replace(TRANSFER, copies=(COPY, empty)), max_time_in_queue="24h")
    )
    assert [(one["sources"], one["destinations"]) for one in document["files"]] == [
        ([COPY.source], [COPY.destination]),
        ([empty.source], [empty.destination]),
    ]
    assert [one["checksum"] for one in document["files"]] == ["ADLER32:0f285b8e", "ADLER32"]


def test_overwrite_as_asked() -> None:
    _, params = built(replace(TRANSFER, overwrite=True))
    assert params["overwrite"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        of(source="https://archive/data/a"),
        of(destination="file:///etc/passwd"),
        of(destination=COPY.source),
        of(destination="gsiftp://h/" + "a" * 1090),
        replace(TRANSFER, metadata={"k": "v" * (LARGEST_METADATA - len('{"k": ""}') + 1)}),
    ],
)
def test_what_fts_would_accept_and_fail_on(wrong: Transfer) -> None:
    with pytest.raises(Refused) as caught:
        submission(wrong, max_time_in_queue="24h")
    assert caught.value.code == 400

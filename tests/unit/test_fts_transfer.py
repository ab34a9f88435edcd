"""The body of POST /jobs, through FTS's own builders."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deliv.errors import Refused
from deliv.gateways.fts.transfer import LARGEST_METADATA, Transfer, submission

TRANSFER = Transfer(
    sid="job:1",
    source="gsiftp://archive/data/a%20b",
    destination="gsiftp://user:2811/home/a%20b",
    checksum="ADLER32:0f285b8e",
    size=1000,
    metadata={"deliv_job_id": "job"},
)


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
    file, params = built(replace(TRANSFER, checksum=None))
    assert file["checksum"] == "ADLER32"
    assert params["verify_checksum"] == "both"


@pytest.mark.parametrize("size", [None, 0])
def test_fts_takes_no_size_for_unknown(size: int | None) -> None:
    file, _ = built(replace(TRANSFER, size=size))
    assert "filesize" not in file


def test_overwrite_as_asked() -> None:
    _, params = built(replace(TRANSFER, overwrite=True))
    assert params["overwrite"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        replace(TRANSFER, source="https://archive/data/a"),
        replace(TRANSFER, destination="file:///etc/passwd"),
        replace(TRANSFER, destination=TRANSFER.source),
        replace(TRANSFER, destination="gsiftp://h/" + "a" * 1090),
        replace(TRANSFER, metadata={"k": "v" * (LARGEST_METADATA - len('{"k": ""}') + 1)}),
    ],
)
def test_what_fts_would_accept_and_fail_on(wrong: Transfer) -> None:
    with pytest.raises(Refused) as caught:
        submission(wrong, max_time_in_queue="24h")
    assert caught.value.code == 400

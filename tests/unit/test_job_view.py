from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from deliv.http.handlers.job_view import public
from deliv.model.job import Job
from deliv.model.states import Status


def made(**values: Any) -> Job:
    return Job(
        job_id="j",
        product_id="p",
        destination_path="gsiftp://h/d",
        submitter="/CN=a",
        time_submitted=datetime(2026, 1, 1, tzinfo=UTC),
        **values,
    )


def shown(**changes: Any) -> tuple[Any, Any]:
    values: dict[str, Any] = {
        "status": Status.TRANSFERRING, "files_total": 100, "files_done": 10, "files_arriving": 45,
        "bytes_total": 1000, "bytes_done": 190,
    }  # fmt: skip
    answer = public(made(**values | changes))
    return answer.get("files_done"), answer.get("bytes_done")


def test_what_fts_has_copied_is_done() -> None:
    assert shown() == (55, 190 + 810 // 2)
    assert shown(files_arriving=90) == (100, 1000)


def test_of_unknown_sizes_nothing_is_reckoned() -> None:
    assert shown(bytes_total=None) == (55, 190)


def test_what_is_recorded_is_shown_in_the_end_and_where_nothing_is_under_way() -> None:
    assert shown(status=Status.ERROR) == (10, 190)
    assert shown(files_arriving=0) == (10, 190)


def test_a_single_file_has_no_counts() -> None:
    none = dict.fromkeys(("files_total", "files_done", "bytes_total", "bytes_done"))
    assert shown(files_arriving=0, **none) == (None, None)


def test_the_id_of_anothers_staging_is_not_shown_but_that_of_the_repeated_job_is() -> None:
    """Which may be the same one: the submitter is to look after what that job has left."""
    text = "it is the part that job 0190-7, which this one repeats, has left there"
    job = made(status=Status.ERROR, detailed_status=text, staging_id="0190-7")
    assert "job STAGING, which" in public(job)["detailed_status"]
    assert public(replace(job, retry_of="0190-7"))["detailed_status"] == text

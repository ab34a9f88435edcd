"""What a job's JSON means: recorded jobs, and the states that no recording has."""

from __future__ import annotations

import json

import msgspec
import pytest

from deliv.failures import ErrorClass
from deliv.fts.answers import File, Job
from deliv.fts.outcomes import ACTIVE, TERMINAL, Verdict, outcome

BEGUN = "nostreams:0,timeout:16984,buffersize:0"
NOT_BEGUN = "nostreams:0,timeout:0,buffersize:0"
GENERIC = "One or more files failed. Please have a look at the details for more information"


def job(state: str, *files: File, reason: str | None = None) -> Job:
    return Job(job_id="1", job_state=state, reason=reason, files=files)


def failed(reason: str, **fields: object) -> File:
    return msgspec.structs.replace(File(file_state="FAILED", reason=reason), **fields)


def test_a_finished_copy() -> None:
    file = File(file_state="FINISHED", reason="", filesize=8589934592, throughput=228.827)
    known = outcome(job("FINISHED", file, reason=""))
    assert known.verdict is Verdict.FINISHED
    assert known.filesize == 8589934592
    assert known.throughput == 228.827
    assert known.error_class is None
    assert not known.partial


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_active_states_run(state: str) -> None:
    assert outcome(job(state, File(file_state="SUBMITTED"))).verdict is Verdict.RUNNING


@pytest.mark.parametrize("state", ["FROZEN", "TOKEN_PREP", None])
def test_states_of_a_newer_fts_are_neither_an_end_nor_an_error(state: str | None) -> None:
    assert outcome(Job(job_id="1", job_state=state)).verdict is Verdict.UNKNOWN


def test_a_retried_file_of_an_active_job_runs() -> None:
    file = File(file_state="SUBMITTED", reason="SOURCE [70] Connection refused")
    assert outcome(job("ACTIVE", file)).verdict is Verdict.RUNNING


def test_the_files_reason_goes_before_the_generic_one() -> None:
    exists = "DESTINATION [17] Destination file exists and overwrite is not enabled"
    file = failed(exists, filesize=1000000, internal_file_params=NOT_BEGUN)
    known = outcome(job("FAILED", file, reason=GENERIC))
    assert known.verdict is Verdict.FAILED
    assert known.error_class is ErrorClass.EXISTS
    assert known.reason == exists
    assert not known.partial


@pytest.mark.parametrize(
    ("file", "partial"),
    [
        (failed("SOURCE [2] No such file", internal_file_params=NOT_BEGUN), False),
        (failed("DESTINATION [70] Connection refused", internal_file_params=NOT_BEGUN), False),
        (failed("DESTINATION [70] Connection refused", internal_file_params=BEGUN), True),
        (failed("DESTINATION [22] file size mismatch", internal_file_params=BEGUN), True),
        (failed("TRANSFER [70] TRANSFER  an end-of-file was reached"), True),
        (failed("GENERAL_FAILURE [5] killed", internal_file_params=NOT_BEGUN), False),
        (failed("GENERAL_FAILURE [5] killed", throughput=12.5), True),
        (failed("TRANSFER [17] TRANSFER File exists", internal_file_params=BEGUN), False),
        (failed("FAILED without form"), False),
    ],
)
def test_what_may_be_left_at_the_destination(file: File, partial: bool) -> None:
    assert outcome(job("FAILED", file, reason=GENERIC)).partial is partial


@pytest.mark.parametrize(("params", "partial"), [(None, False), (NOT_BEGUN, False), (BEGUN, True)])
def test_a_cancel_leaves_a_part_once_the_copy_had_begun(params: str | None, partial: bool) -> None:
    reason = "Job canceled by the user"
    file = File(file_state="CANCELED", reason=reason, internal_file_params=params)
    known = outcome(job("CANCELED", file, reason=reason))
    assert known.verdict is Verdict.CANCELLED
    assert known.error_class is ErrorClass.CANCELLED
    assert known.partial is partial


def test_a_queue_timeout_is_a_timeout_though_canceled() -> None:
    reason = "Job has been canceled because it stayed in the queue for too long"
    known = outcome(job("CANCELED", File(file_state="CANCELED", reason=reason), reason=reason))
    assert known.verdict is Verdict.CANCELLED
    assert known.error_class is ErrorClass.TIMEOUT


@pytest.mark.parametrize("state", ["CANCELED", "FINISHEDDIRTY"])
def test_a_file_that_finished_has_finished_whatever_became_of_the_job(state: str) -> None:
    assert outcome(job(state, File(file_state="FINISHED"))).verdict is Verdict.FINISHED


ENDS = [Verdict.FINISHED, Verdict.FAILED, Verdict.FAILED, Verdict.CANCELLED]


@pytest.mark.parametrize(("state", "verdict"), list(zip(TERMINAL, ENDS, strict=True)))
def test_without_files_the_job_decides(state: str, verdict: Verdict) -> None:
    known = outcome(Job(job_id="1", job_state=state))
    assert known.verdict is verdict
    if verdict is not Verdict.FINISHED:
        assert known.reason == f"FTS gave no reason for {state}"


def test_details_are_ftss_fields_without_the_empty_ones() -> None:
    file = File(file_state="FINISHED", filesize=5)
    assert json.loads(outcome(job("FINISHED", file)).details or "") == {
        "job_id": "1",
        "job_state": "FINISHED",
        "files": [{"file_state": "FINISHED", "filesize": 5}],
    }

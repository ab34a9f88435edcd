"""What a job's JSON means: recorded jobs, and the states that no recording has."""

from __future__ import annotations

import json

import msgspec
import pytest

from deliv.gateways.fts.answers import FileAnswer, JobAnswer
from deliv.gateways.fts.outcomes import ACTIVE, TERMINAL, Verdict, outcome
from deliv.model.error_classes import ErrorClass

BEGUN = "nostreams:0,timeout:16984,buffersize:0"
NOT_BEGUN = "nostreams:0,timeout:0,buffersize:0"
GENERIC = "One or more files failed. Please have a look at the details for more information"


def job(state: str, *files: FileAnswer, reason: str | None = None) -> JobAnswer:
    return JobAnswer(job_id="1", job_state=state, reason=reason, files=files)


def failed(reason: str, **fields: object) -> FileAnswer:
    return msgspec.structs.replace(FileAnswer(file_state="FAILED", reason=reason), **fields)


def test_a_finished_copy() -> None:
    file = FileAnswer(file_state="FINISHED", reason="", filesize=8589934592, throughput=228.827)
    known = outcome(job("FINISHED", file, reason=""))
    assert known.verdict is Verdict.FINISHED
    assert known.filesize == 8589934592
    assert known.throughput == 228.827
    assert known.error_class is None
    assert not known.partial


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_active_states_run(state: str) -> None:
    assert outcome(job(state, FileAnswer(file_state="SUBMITTED"))).verdict is Verdict.RUNNING


@pytest.mark.parametrize("state", ["FROZEN", "TOKEN_PREP", None])
def test_states_of_a_newer_fts_are_neither_an_end_nor_an_error(state: str | None) -> None:
    assert outcome(JobAnswer(job_id="1", job_state=state)).verdict is Verdict.UNKNOWN


def test_a_retried_file_of_an_active_job_runs() -> None:
    file = FileAnswer(file_state="SUBMITTED", reason="SOURCE [70] Connection refused")
    assert outcome(job("ACTIVE", file)).verdict is Verdict.RUNNING


def test_the_files_reason_goes_before_the_generic_one() -> None:
    exists = "DESTINATION [17] Destination file exists and overwrite is not enabled"
    file = failed(exists, filesize=1000000, internal_file_params=NOT_BEGUN)
    known = outcome(job("FAILED", file, reason=GENERIC))
    assert known.verdict is Verdict.FAILED
    assert known.error_class is ErrorClass.EXISTS
    assert known.reason == exists
    assert not known.partial


URL = "gsiftp://user.example.org/data/file"
GSS = "globus_ftp_client: the server responded with an error"
SRC = "TRANSFER CHECKSUM MISMATCH USER_DEFINE and SRC checksums are different. 1 != 2"
DST = "TRANSFER CHECKSUM MISMATCH SRC and DST checksum are different. Source: 1 Destination: 2"
MKDIR = f"TRANSFER {GSS} 550 550-GridFTP-Reason: System error in mkdir Permission denied"
OPEN = f"TRANSFER {GSS} 500 500-globus_xio: System error in open: Permission denied"
WRITE = f"TRANSFER {GSS} 500 500-globus_xio: System error in write: No space left on device"
SIZE = "DESTINATION [22] Source and destination file size mismatch"


@pytest.mark.parametrize(
    ("file", "begun"),
    [
        # nothing had been written
        (failed("SOURCE [2] No such file", internal_file_params=NOT_BEGUN), False),
        (failed("SOURCE [5] Source and user-defined ADLER32 checksum do not match (1 != 2)",
                internal_file_params=BEGUN), False),
        (failed("DESTINATION [70] Connection refused"), False),
        (failed(f"TRANSFER [5] {SRC}", internal_file_params=BEGUN), False),
        (failed(f"TRANSFER [13] {MKDIR}", internal_file_params=BEGUN), False),
        (failed(f"TRANSFER [13] {OPEN}", internal_file_params=BEGUN), False),
        (failed("TRANSFER [70] TRANSFER  globus_xio: Unable to connect to h:1",
                internal_file_params=BEGUN), False),
        (failed("TRANSFER [17] TRANSFER File exists", internal_file_params=BEGUN), False),
        (failed("GENERAL_FAILURE [5] killed", internal_file_params=NOT_BEGUN), False),
        (failed("FAILED without form"), False),
        # it can't be said by the reason: no byte had moved, as far as FTS knows
        (failed("GENERAL_FAILURE [5] killed", internal_file_params=NOT_BEGUN), False),
        (failed("TRANSFER [110] TRANSFER  Operation timed out"), False),
        (failed("TRANSFER [125] Transfer canceled", internal_file_params=NOT_BEGUN), False),
        # the copy had begun
        (failed(SIZE, internal_file_params=BEGUN), True),
        (failed(f"TRANSFER [5] {DST}", internal_file_params=BEGUN), True),
        (failed("DESTINATION [5] User-defined and destination ADLER32 checksum do not match"),
         True),
        (failed(f"TRANSFER [70] {WRITE}"), True),
        (failed("TRANSFER [70] TRANSFER  an end-of-file was reached", throughput=1.5), True),
        (failed("GENERAL_FAILURE [5] killed", throughput=12.5), True),
    ],
)  # fmt: skip
def test_what_may_be_left_and_what_is_the_copys_own(file: FileAnswer, begun: bool) -> None:
    known = outcome(job("FAILED", msgspec.structs.replace(file, dest_surl=URL), reason=GENERIC))
    assert (known.partial, known.written_to) == (begun, URL if begun else None)


@pytest.mark.parametrize(
    "file",
    [
        failed("GENERAL_FAILURE [5] killed", internal_file_params=BEGUN, dest_surl=URL),
        failed("DESTINATION [70] Connection refused", internal_file_params=BEGUN, dest_surl=URL),
        # what gfal2 says of the steps before, too
        failed(
            "TRANSFER [70] TRANSFER  an end-of-file was reached globus_xio: End of file",
            internal_file_params=BEGUN,
            throughput=0.0,
            dest_surl=URL,
        ),
        failed(
            "TRANSFER [256] TRANSFER  what is not known", internal_file_params=BEGUN, dest_surl=URL
        ),
    ],
)
def test_a_copy_about_to_begin_may_have_left_something_and_proves_nothing(file: FileAnswer) -> None:
    """A user's file may have appeared while FTS read the source's checksum."""
    known = outcome(job("FAILED", file, reason=GENERIC))
    assert (known.partial, known.written_to) == (True, None)


def test_where_fts_names_no_url_nothing_is_proven() -> None:
    file = failed("TRANSFER [70] TRANSFER  an end-of-file was reached", throughput=1.5)
    assert outcome(job("FAILED", file, reason=GENERIC)).written_to is None


@pytest.mark.parametrize(
    ("fields", "partial", "proven"),
    [
        ({}, False, False),
        ({"internal_file_params": NOT_BEGUN}, False, False),
        ({"internal_file_params": BEGUN}, True, False),
        ({"internal_file_params": BEGUN, "throughput": 1.5}, True, True),
    ],
)
def test_a_cancel_leaves_a_part_once_the_copy_had_begun(
    fields: dict[str, object], partial: bool, proven: bool
) -> None:
    reason = "Job canceled by the user"
    file = FileAnswer(file_state="CANCELED", reason=reason, dest_surl=URL, **fields)
    known = outcome(job("CANCELED", file, reason=reason))
    assert known.verdict is Verdict.CANCELLED
    assert known.error_class is ErrorClass.CANCELLED
    assert (known.partial, known.written_to) == (partial, URL if proven else None)


@pytest.mark.parametrize(
    ("reason", "corrupt"),
    [
        (f"TRANSFER [5] {SRC}", True),
        ("SOURCE [5] Source and user-defined ADLER32 checksum do not match (1 != 2)", True),
        (f"TRANSFER [5] {DST}", False),
        (SIZE, False),
        ("SOURCE [2] No such file", False),
    ],
)
def test_a_corrupt_staged_copy_is_told_from_a_corrupt_transfer(reason: str, corrupt: bool) -> None:
    assert outcome(job("FAILED", failed(reason))).corrupt_source is corrupt


def test_a_queue_timeout_is_a_timeout_though_canceled() -> None:
    reason = "Job has been canceled because it stayed in the queue for too long"
    known = outcome(
        job("CANCELED", FileAnswer(file_state="CANCELED", reason=reason), reason=reason)
    )
    assert known.verdict is Verdict.CANCELLED
    assert known.error_class is ErrorClass.TIMEOUT


def test_a_file_that_finished_has_finished_although_its_job_was_cancelled() -> None:
    assert outcome(job("CANCELED", FileAnswer(file_state="FINISHED"))).verdict is Verdict.FINISHED


FAILED_FILE = failed("SOURCE [2] No such file")


@pytest.mark.parametrize(
    "files",
    [
        (FileAnswer(file_state="FINISHED"),),
        (FileAnswer(file_state="FINISHED"), FAILED_FILE),
        (FAILED_FILE, FileAnswer(file_state="FINISHED")),
    ],
)
def test_a_job_of_which_a_file_failed_is_no_success(files: tuple[FileAnswer, ...]) -> None:
    known = outcome(job("FINISHEDDIRTY", *files, reason=GENERIC))
    assert known.verdict is Verdict.FAILED
    assert known.reason == (FAILED_FILE.reason if FAILED_FILE in files else GENERIC)


@pytest.mark.parametrize("state", ["CANCELED", "FINISHED"])
def test_of_several_files_the_one_that_did_not_finish_decides(state: str) -> None:
    files = (
        FileAnswer(file_state="FINISHED"),
        FileAnswer(file_state="CANCELED", reason="Job canceled"),
    )
    assert outcome(job(state, *files)).verdict is Verdict.CANCELLED


ENDS = [Verdict.FINISHED, Verdict.FAILED, Verdict.FAILED, Verdict.CANCELLED]


def test_a_finished_job_whose_file_was_not_copied_is_no_clear_answer() -> None:
    assert outcome(job("FINISHED", FileAnswer(file_state="NOT_USED"))).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(("state", "verdict"), list(zip(TERMINAL, ENDS, strict=True)))
def test_without_files_the_job_decides(state: str, verdict: Verdict) -> None:
    known = outcome(JobAnswer(job_id="1", job_state=state))
    assert known.verdict is verdict
    if verdict is not Verdict.FINISHED:
        assert known.reason == f"FTS gave no reason for {state}"


def test_details_are_ftss_fields_without_the_empty_ones() -> None:
    file = FileAnswer(file_state="FINISHED", filesize=5)
    assert json.loads(outcome(job("FINISHED", file)).details or "") == {
        "job_id": "1",
        "job_state": "FINISHED",
        "files": [{"file_state": "FINISHED", "filesize": 5}],
    }


@pytest.mark.parametrize(
    ("job_state", "file_state", "verdict"),
    [
        ("FINISHEDDIRTY", "FINISHED", Verdict.FINISHED),
        ("FINISHEDDIRTY", "FAILED", Verdict.FAILED),
        ("CANCELED", "FINISHED", Verdict.FINISHED),
        ("CANCELED", "CANCELED", Verdict.CANCELLED),
        ("FAILED", "FAILED", Verdict.FAILED),
        ("FINISHED", "FINISHED", Verdict.FINISHED),
        ("FINISHED", "NOT_USED", Verdict.UNKNOWN),
        ("FINISHEDDIRTY", "ON_HOLD", Verdict.UNKNOWN),
        ("FINISHEDDIRTY", "ACTIVE", Verdict.UNKNOWN),
        ("CANCELED", None, Verdict.UNKNOWN),
        ("ACTIVE", "FINISHED", Verdict.RUNNING),
        ("SOMETHING", "FINISHED", Verdict.UNKNOWN),
    ],
)
def test_each_file_of_many_has_an_outcome_of_its_own(
    job_state: str, file_state: str | None, verdict: Verdict
) -> None:
    one = FileAnswer(file_state=file_state, dest_surl="gsiftp://user/one", filesize=3)
    other = FileAnswer(file_state="FAILED", dest_surl="gsiftp://user/other", reason="x")
    known = outcome(JobAnswer(job_id="1", job_state=job_state, files=(one, other)))
    assert known.files["gsiftp://user/one"].verdict is verdict
    assert known.files.keys() == {"gsiftp://user/one", "gsiftp://user/other"}
    assert "one" not in (known.details or "")  # of many files it would be far too long

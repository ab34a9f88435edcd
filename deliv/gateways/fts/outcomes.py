"""What FTS answers about one of its jobs, as deliv understands it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

import msgspec

from deliv.gateways.fts.answers import FileAnswer, JobAnswer
from deliv.gateways.fts.reasons import CopyProgress, classify, how_far, parse
from deliv.model.error_classes import ErrorClass
from deliv.model.transfer import Progress

ACTIVE = frozenset(
    {
        "SUBMITTED", "READY", "ACTIVE", "STAGING", "ARCHIVING", "QOS_TRANSITION",
        "QOS_REQUEST_SUBMITTED", "DELETE",
    }
)  # fmt: skip
LARGEST = 2**63 - 1  # bytes of a file, on any system
TERMINAL = ("FINISHED", "FAILED", "FINISHEDDIRTY", "CANCELED")


class Verdict(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    FORBIDDEN = "forbidden"  # FTS has it, and does not let deliv see it (any more)
    UNKNOWN = "unknown"  # FTS gave no clear answer; ask again later


ENDS = MappingProxyType(
    {
        "FINISHED": Verdict.FINISHED,
        "FAILED": Verdict.FAILED,
        "CANCELED": Verdict.CANCELLED,
    }
)
FILE_ENDS = frozenset({*ENDS, "NOT_USED"})

_TIMEOUT = re.compile(r"\btimeout:(\d{1,9})")


@dataclass(frozen=True, kw_only=True)
class TransferOutcome:
    """`filesize` in bytes, `throughput` in MiB/s, `details` FTS's own fields as JSON.

    `error_class` is for a failed, cancelled or forbidden copy only; `partial`: such a copy may have
    left a file at the destination that was not there before. `written_to`: the URL at which FTS's
    record shows that its copy had begun; what is there is the copy's own. `corrupt_source`: the
    staged copy is not what was announced. `begun`: FTS had set to work on it, and what it has
    stopped may go on for seconds. `files`: the outcome of each file by the URL of its destination.
    """

    verdict: Verdict
    state: str = ""
    error_class: ErrorClass | None = None
    reason: str = ""
    filesize: int | None = None
    throughput: float | None = None
    partial: bool = False
    written_to: str | None = None
    corrupt_source: bool = False
    begun: bool = False
    details: str | None = None
    files: Mapping[str, TransferOutcome] = field(default_factory=dict)


def outcome(job: JobAnswer) -> TransferOutcome:
    """Read a job with its `files`; of several the first that did not finish counts.

    How each ended is in the outcome's `files`.
    """
    files = job.files or (FileAnswer(),)
    file = next((file for file in files if file.file_state != "FINISHED"), files[0])
    known = _read(job, file, _verdict(job, file))
    if len(files) == 1:
        details = msgspec.json.encode(job).decode()
    else:
        details = msgspec.json.encode(msgspec.structs.replace(job, files=None)).decode()
    each = {
        one.dest_surl: _read(job, one, _verdict_on_file(job, one))
        for one in files
        if one.dest_surl is not None
    }
    return replace(known, details=details, files=each)


def _read(job: JobAnswer, file: FileAnswer, verdict: Verdict) -> TransferOutcome:
    known = TransferOutcome(
        verdict=verdict,
        state=job.job_state or "",
        filesize=file.filesize,
        throughput=file.throughput,
        begun=file.start_time is not None,
    )
    if known.verdict is Verdict.FINISHED and not 0 <= (file.filesize or 0) <= LARGEST:
        reason = f"it says that the copy has {file.filesize} bytes"
        return replace(known, verdict=Verdict.UNKNOWN, reason=reason, filesize=None)
    if known.verdict is Verdict.FINISHED:
        return replace(known, written_to=file.dest_surl)
    if known.verdict in {Verdict.FAILED, Verdict.CANCELLED}:
        return _failure(known, job, file)
    return known


def progress(job: JobAnswer) -> Progress:
    """How far a job is, by the states of its `files`."""
    states = Counter(file.file_state for file in job.files or ())
    return Progress(
        active=states["ACTIVE"],
        ended=sum(count for state, count in states.items() if state in FILE_ENDS),
        arrived=states["FINISHED"],
    )


def unclear(reason: str) -> TransferOutcome:
    """No usable answer about a job."""
    return TransferOutcome(verdict=Verdict.UNKNOWN, reason=reason)


def forbidden(reason: str) -> TransferOutcome:
    """A job that is another's to FTS, or a user or storage that its operators have banned.

    Another's: its VO or deliv's identity there has changed.
    """
    banned = reason.endswith(" banned")
    error_class = ErrorClass.BANNED if banned else ErrorClass.CREDENTIAL
    return TransferOutcome(verdict=Verdict.FORBIDDEN, reason=reason, error_class=error_class)


def _verdict(job: JobAnswer, file: FileAnswer) -> Verdict:
    """The job says whether it is over, its file how: a cancel can come after the last byte.

    FINISHEDDIRTY means that a file failed, whichever are shown. A FINISHED job whose file was not
    used, say, is no clear answer.
    """
    if job.job_state not in TERMINAL:
        return Verdict.RUNNING if job.job_state in ACTIVE else Verdict.UNKNOWN
    if job.job_state == "FINISHEDDIRTY":
        return Verdict.FAILED
    if job.job_state == "FINISHED" and job.files and file.file_state not in ENDS:
        return Verdict.UNKNOWN
    how = file.file_state if file.file_state in ENDS else job.job_state
    return ENDS.get(how or "", Verdict.FAILED)


def _verdict_on_file(job: JobAnswer, file: FileAnswer) -> Verdict:
    """Of one of several, when the job is over. Any other state, as NOT_USED, is no clear answer."""
    if job.job_state not in TERMINAL:
        return _verdict(job, file)
    return ENDS.get(file.file_state or "", Verdict.UNKNOWN)


def _failure(known: TransferOutcome, job: JobAnswer, file: FileAnswer) -> TransferOutcome:
    text = file.reason or job.reason or f"FTS gave no reason for {known.state}"
    reason = parse(text)
    error_class, came = classify(reason), how_far(reason)
    unclear_how_far = came is CopyProgress.UNCLEAR
    begun = came is CopyProgress.COPY or (unclear_how_far and bool(file.throughput))
    # FTS sets a copy's time-out soon before the copy begins. In between it reads the source's
    # checksum (UrlCopyProcess.cpp: sendProtocol), for minutes when the file is large: a file that
    # appears meanwhile may be somebody else's. FTS later than 3.13 has not even looked at the
    # destination by then. That bytes moved is shown by the throughput.
    timeout = _TIMEOUT.search(file.internal_file_params or "")
    about_to_begin = timeout is not None and int(timeout[1]) > 0
    return replace(
        known,
        error_class=error_class,
        reason=" ".join(text.split()),
        partial=begun or (unclear_how_far and about_to_begin),
        written_to=file.dest_surl if begun else None,
        corrupt_source=error_class is ErrorClass.CHECKSUM and came is CopyProgress.PREPARATION,
    )

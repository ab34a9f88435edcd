"""What follows a failed attempt: another one, or the end of the job. Decided here alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from deliv.config import Config
from deliv.delivery.destination import destination_file
from deliv.delivery.waiting import WAITING
from deliv.errors import NoCredential
from deliv.model.error_classes import ADVICE, ErrorClass
from deliv.model.file import FileState
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.states import Event, Status
from deliv.store import NOW, Routing, Store
from deliv.store.columns import KEEP, Sentinel

log = structlog.get_logger()

# Reset when an attempt ends, so that the next one starts clean.
FRESH_TRANSFER = {
    "fts_endpoint": None,
    "fts_jobid": None,
    "fts_posted": None,
    "fts_misses": 0,
    "unseen_since": None,
    "slice": 0,
    "files_at_fts": 0,
    "bytes_at_fts": 0,
    "files_active": 0,
    "files_arriving": 0,
    "turn_since": None,
}
FRESH_STAGING = {
    **FRESH_TRANSFER,
    "stager_callback": None,
    "stager_accepted": None,
    "stager_status": None,
    "stager_path": None,
    "stager_hostname": None,
}
END = (Routing.ADMIT, Routing.ATTEND)  # another may be admitted, and this one is cleaned up


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt failed.

    `advice`: what the submitter can do, where the class alone does not say. `copy_begun`: by FTS's
    own record its copy had begun at the destination file, so that what is there is the job's; with
    `exists` that of the job which it repeats, which the next attempt may overwrite.
    `corrupt_source`: another staged copy is needed.
    """

    error_class: ErrorClass
    reason: str
    advice: str | None = None
    may_have_partial_file: bool = False
    copy_begun: bool = False
    corrupt_source: bool = False
    details: str | None = None


class FailureHandler:
    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config

    async def attempt(self, job: Job, failure: Failure, **columns: Any) -> Job:
        """Try again where the policy for this class of error allows it, else end in ERROR.

        A job that is being stopped ends. `columns` of the job are set along with it, where another
        attempt does not begin without them.
        """
        if phase(job) is Phase.STOPPING:
            return await self.stopped(job, failure)
        retry = self._config.retry(failure.error_class)
        overwrites = failure.error_class is ErrorClass.EXISTS and failure.copy_begun
        if job.attempt >= retry.attempts and not overwrites:
            return await self.end(job, failure, **columns)
        delay = 0 if overwrites else retry.pauses.pause(job.attempt - 1)
        _log(job, failure).warning("attempt failed, trying again", delay=delay)
        unusable = failure.corrupt_source or failure.error_class is ErrorClass.SOURCE_MISSING
        if job.status is Status.STAGING or unusable:
            event, fresh = Event.RESTAGE, FRESH_STAGING
        else:
            event, fresh = Event.RETRANSFER, FRESH_TRANSFER
        changes = {
            "attempt": job.attempt + 1,
            "partial": job.partial or failure.may_have_partial_file,
            "copy_begun": _copy_begun(job, failure),
            "detailed_status": (
                f"attempt {job.attempt} failed ({_arrived(job)}{failure.reason}); trying again"
            ),
            "fts_details": failure.details or job.fts_details,
        }
        return await self._store.apply(job, event, delay=delay, **{**columns, **changes, **fresh})

    async def unseen(self, job: Job, failure: Failure, *, delay: float | Sentinel = KEEP) -> Job:
        """What `failure` keeps deliv from seeing: FTS may go on with the attempt.

        So there is no other one: the job waits to be seen again, and ends when that takes too long.
        """
        if job.unseen_since is not None and await self.waited_out(job.unseen_since):
            if phase(job) is Phase.STOPPING:
                return await self.stopped(job, failure)
            return await self.end(job, failure)
        _log(job, failure).warning("FTS's transfer can't be seen")
        columns: dict[str, Any] = {"detailed_status": f"{WAITING}{failure.reason}"}
        if job.unseen_since is None:
            columns["unseen_since"] = NOW
        elif delay is KEEP and columns["detailed_status"] == job.detailed_status:
            return job
        return await self._store.update(job, delay=delay, **columns)

    async def waited_out(self, since: datetime) -> bool:
        """Whether FTS has had the time since then for which a lost transfer is looked for."""
        return await self._store.age(since) >= self._config.fts.patience

    def patience(self, error_class: ErrorClass) -> float:
        """The seconds between the first and the last of all attempts after such failures."""
        retry = self._config.retry(error_class)
        return retry.pauses.total(retry.attempts - 1)

    async def stopped(self, job: Job, copy: Failure | None = None, *, delay: float = 0) -> Job:
        """The end of a job that its owner withdrew, or else whose deadline is over.

        `copy` is how FTS's copy ended. `delay` as with `end`.
        """
        copy = copy or Failure(error_class=ErrorClass.CANCELLED, reason="")
        if job.cancel_requested is None and job.deadline_passed is not None:
            return await self.overdue(job, copy, delay=delay)
        log.info("cancelled", job_id=job.job_id)
        partial = job.partial or copy.may_have_partial_file
        remains = _remains(job, copy) if partial else ""
        return await self._store.apply(
            job,
            Event.CANCEL,
            wake=END,
            delay=delay,
            partial=partial,
            detailed_status=f"cancelled on request{await self._how_far(job)}{remains}",
            fts_details=copy.details or job.fts_details,
            stager_callback=None,
        )

    async def overdue(self, job: Job, copy: Failure, *, delay: float = 0) -> Job:
        """The end of a job whose deadline is over. The parameters are those of `stopped`."""
        when = f"{job.deadline:%Y-%m-%d %H:%M:%S} UTC" if job.deadline else "given"
        how_far = await self._how_far(job)
        failure = replace(
            copy,
            error_class=ErrorClass.DEADLINE,
            reason=f"the product was not delivered by the deadline, {when}{how_far}",
            advice=None,
        )
        return await self.end(job, failure, delay=delay)

    async def end(self, job: Job, failure: Failure, *, delay: float = 0, **columns: Any) -> Job:
        """ERROR, with the reason and what the submitter can do about it.

        The clean-up follows after `delay` seconds.
        """
        _log(job, failure).error("job failed")
        partial = job.partial or failure.may_have_partial_file
        advice = failure.advice or ADVICE[failure.error_class]
        in_the_way = failure.error_class is ErrorClass.EXISTS
        file = f" ({destination_file(job)})" if in_the_way else ""
        reason = f"{_arrived(job)}{failure.reason.rstrip('. ')}{file}. {advice}"
        return await self._store.apply(
            job,
            Event.FAIL,
            wake=END,
            delay=delay,
            error_class=failure.error_class.value,
            partial=partial,
            copy_begun=_copy_begun(job, failure),
            detailed_status=f"{reason.rstrip('.')}{_remains(job, failure) if partial else '.'}",
            fts_details=failure.details or job.fts_details,
            stager_callback=None,
            **columns,
        )

    async def _how_far(self, job: Job) -> str:
        """How many files are there, may be there in part, and were never begun."""
        if job.report is None:
            return ""
        whole = parts = 0
        for group in await self._store.file_groups(job):
            if group.state is FileState.FINISHED:
                whole += group.count
            elif group.partial or group.state is FileState.ASSIGNED:
                parts += group.count
        absent = (job.files_total or 0) - whole - parts
        files = "file" if whole == 1 else "files"
        return f": {whole:,} {files} arrived whole, {parts:,} may be there in part, {absent:,} not"


def lacking(error: NoCredential) -> Failure:
    return Failure(error_class=ErrorClass.CREDENTIAL, reason=str(error))


def _copy_begun(job: Job, failure: Failure) -> bool:
    """An attempt that ended without FTS's record takes away what that of another proved."""
    return failure.copy_begun or (job.copy_begun and not failure.may_have_partial_file)


def _remains(job: Job, failure: Failure) -> str:
    """deliv deletes nothing at a destination: by now the file may be somebody else's."""
    file = destination_file(job)
    if job.report is not None:
        return f". Parts of files may be left below {file}: look there, and remove them."
    if failure.error_class is ErrorClass.EXISTS and failure.advice is None:
        return (
            f". An earlier attempt may have copied to {file} as well: what is there may be (a part "
            "of) its copy, or a file of yours: look at it before you move or remove it."
        )
    return f". What was copied may be left at {file}: look there, and remove it."


def _arrived(job: Job) -> str:
    if job.report is None:
        return ""
    return f"{job.files_done:,} of {job.files_total:,} files arrived; "


def _log(job: Job, failure: Failure) -> structlog.stdlib.BoundLogger:
    bound: structlog.stdlib.BoundLogger = log.bind(
        job_id=job.job_id,
        attempt=job.attempt,
        error_class=failure.error_class.value,
        reason=failure.reason,
    )
    return bound

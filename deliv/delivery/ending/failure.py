"""What follows a failed attempt: another one, or the end of the job. Decided here alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import structlog

from deliv.config import Config
from deliv.delivery.destination import destination_file
from deliv.errors import NoCredential
from deliv.gateways.fts.reasons import at_source, kind, left_in_queue, parse
from deliv.model.error_classes import ADVICE, ErrorClass
from deliv.model.file import FileState
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.rest import WAITING, Cause, Rest, place_of
from deliv.model.states import Event, Status
from deliv.store import NOW, Routing, Store, waiting
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
# Of a job that has waited too long.
CLASSES = MappingProxyType(
    {
        Cause.DESTINATION: ErrorClass.UNREACHABLE,
        Cause.SPACE: ErrorClass.DESTINATION_FULL,
        Cause.OPERATORS: ErrorClass.UNREACHABLE,
        Cause.DELEGATION: ErrorClass.CREDENTIAL,
        Cause.ARCHIVE: ErrorClass.TIMEOUT,
        Cause.FTS: ErrorClass.TIMEOUT,
    }
)
TRY_LATER = "Nothing is wrong with the job: submit it again when that works."
END = (Routing.ADMIT, Routing.ATTEND)  # another may be admitted, and this one is cleaned up


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt failed.

    `advice`: what the submitter can do, where the class alone does not say. `copy_begun`: by FTS's
    own record its copy had begun at the destination file, so that what is there is the job's; with
    `exists` that of the job which it repeats, which the next attempt may overwrite.
    `corrupt_source`: another staged copy is needed. `cause`: FTS's own words, where `reason` has
    others around them.
    """

    error_class: ErrorClass
    reason: str
    advice: str | None = None
    may_have_partial_file: bool = False
    copy_begun: bool = False
    corrupt_source: bool = False
    details: str | None = None
    cause: str | None = None


class FailureHandler:
    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config
        self._rules = config.rest_rules

    async def attempt(self, job: Job, failure: Failure, **columns: Any) -> Job:
        """Try again where the policy for this class of error allows it, else end in ERROR.

        A job that is being stopped ends. `columns` of the job are set along with it, where another
        attempt does not begin without them.
        """
        if phase(job) is Phase.STOPPING:
            return await self.stopped(job, failure)
        cause = await self._cause(job, failure)
        if cause is not None:
            return await self._excuse(job, failure, cause, columns)
        retry = self._config.retry(failure.error_class)
        overwrites = failure.error_class is ErrorClass.EXISTS and failure.copy_begun
        if job.own_attempts >= retry.attempts and not overwrites:
            return await self.end(job, failure, **columns)
        delay = 0 if overwrites else retry.pauses.pause(job.own_attempts - 1)
        _log(job, failure).warning("attempt failed, trying again", delay=delay)
        event, changes = _again(job, failure)
        return await self._store.apply(job, event, delay=delay, **{**columns, **changes})

    async def may_help(self, job: Job, error_class: ErrorClass, reason: str) -> bool:
        """Whether another attempt may bring a file that failed for this."""
        failure = Failure(error_class=error_class, reason=reason)
        retry = self._config.retry(error_class)
        return job.own_attempts < retry.attempts or await self._cause(job, failure) is not None

    async def give_up(self, job: Job, rest: Rest) -> Job:
        """The end of a job that has rested at a place for as long as it may."""
        error_class = CLASSES[rest.cause]
        waited = _duration(rest.patience(self._rules))
        failure = Failure(
            error_class=error_class,
            reason=f"given up after {waited}: {rest.hindrance()}",
            advice=TRY_LATER if rest.cause is Cause.OPERATORS else None,
        )
        return await self.end(job, failure)

    async def wait(
        self, job: Job, cause: Cause, why: str, delay: float | Sentinel, **columns: Any
    ) -> Job:
        """The job, which waits for what is not its fault, or is given up when that lasts too long.

        Only of a job that FTS can't have.
        """
        since = job.waiting_since if job.waiting_for == cause else None
        if since is not None and await self._store.age(since) >= self._rules.patience:
            reason = f"given up after {_duration(self._rules.patience)}: {why}"
            failure = Failure(
                error_class=CLASSES[cause],
                reason=reason,
                advice=None if cause is Cause.DELEGATION else TRY_LATER,
                may_have_partial_file=job.fts_jobid is not None,
            )
            return await self.end(job, failure)
        columns |= waiting(job, cause, why)
        if (
            since is not None
            and delay is KEEP
            and columns["detailed_status"] == job.detailed_status
        ):
            return job
        return await self._store.update(job, delay=delay, **columns)

    async def _cause(self, job: Job, failure: Failure) -> Cause | None:
        """What a failure that is not the job's fault is due to; None: it counts as its own."""
        reason = parse(failure.cause or failure.reason)
        match failure.error_class:
            case ErrorClass.UNREACHABLE:
                return Cause.ARCHIVE if at_source(reason) else Cause.DESTINATION
            case ErrorClass.DESTINATION_FULL:
                return Cause.SPACE
            case ErrorClass.TIMEOUT if left_in_queue(reason):
                return Cause.FTS
            case ErrorClass.CREDENTIAL if job.copying_user is not None:
                lasts = await self._store.credential_lasts(job.copying_user, self._rules)
                return None if lasts else Cause.DELEGATION
        return None

    async def _excuse(
        self, job: Job, failure: Failure, cause: Cause, columns: dict[str, Any]
    ) -> Job:
        """Another attempt, which does not count: until it the job waits, alone or with others."""
        _log(job, failure).warning("attempt failed, the job waits", waiting_for=cause)
        event, changes = _again(job, failure)
        changes = {**columns, **changes, "excused": job.excused + 1}
        place = place_of(cause, job)
        if place is None:
            if cause is Cause.ARCHIVE and self._paused_enough(job):
                since = f"given up after {_duration(self._rules.patience)}: {failure.reason}"
                return await self.end(job, replace(failure, reason=since, advice=TRY_LATER))
            delay = self._rules.pauses.pause(job.excused)
            changes |= waiting(job, cause, f"{failure.reason}; trying again")
            return await self._store.apply(job, event, delay=delay, **changes)
        why = failure.cause or failure.reason
        rested = await self._store.fail_at(
            job, event, place, kind(parse(why)), why, self._rules, **changes
        )
        if rested is not None:
            return rested
        rest = await self._store.rest_of(job)
        if rest is None:
            return await self.end(job, failure)
        return await self.give_up(job, rest)

    def _paused_enough(self, job: Job) -> bool:
        """Whether the pauses between attempts that were not its fault are as long as it may wait.

        Between them it did not wait, so that no column has since when it does.
        """
        return self._rules.pauses.total(job.excused) >= self._rules.patience

    async def unseen(self, job: Job, failure: Failure, *, delay: float | Sentinel = KEEP) -> Job:
        """What `failure` keeps deliv from seeing: FTS may go on with the attempt.

        So there is no other one: the job waits to be seen again, and ends when that takes too long.
        """
        stopping = phase(job) is Phase.STOPPING
        if not stopping and await self._cause(job, failure) is Cause.DELEGATION:
            return await self.wait(job, Cause.DELEGATION, failure.reason, delay)
        if job.unseen_since is not None and await self.waited_out(job.unseen_since):
            if stopping:
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
        rest = await self._store.rest_of(job) if job.fts_endpoint is None else None
        waited = f"; it waited, since {rest.hindrance()}" if rest else ""
        if rest is None and job.waiting_for is not None and job.detailed_status is not None:
            waited = f"; it waited: {job.detailed_status.removeprefix(WAITING)}"
        failure = replace(
            copy,
            error_class=ErrorClass.DEADLINE,
            reason=f"the product was not delivered by the deadline, {when}{how_far}{waited}",
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


def _again(job: Job, failure: Failure) -> tuple[Event, dict[str, Any]]:
    """By which event another attempt begins, and what it begins with."""
    unusable = failure.corrupt_source or failure.error_class is ErrorClass.SOURCE_MISSING
    if job.status is Status.STAGING or unusable:
        event, fresh = Event.RESTAGE, FRESH_STAGING
    else:
        event, fresh = Event.RETRANSFER, FRESH_TRANSFER
    return event, {
        "attempt": job.attempt + 1,
        "partial": job.partial or failure.may_have_partial_file,
        "copy_begun": _copy_begun(job, failure),
        "detailed_status": (
            f"attempt {job.attempt} failed ({_arrived(job)}{failure.reason}); trying again"
        ),
        "fts_details": failure.details or job.fts_details,
        **fresh,
    }


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


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

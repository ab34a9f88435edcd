"""What follows a failed attempt: another one, or the end of the job. Decided here alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from deliv.config import Config
from deliv.failures import ADVICE, ErrorClass
from deliv.faults import Point, reach
from deliv.model import Job
from deliv.states import Event, Status
from deliv.store import Store

log = structlog.get_logger()

# Set back when an attempt ends, so that the next one starts clean.
FRESH_TRANSFER = {"fts_endpoint": None, "fts_jobid": None, "fts_posted": None, "fts_misses": 0}
FRESH_STAGING = {
    **FRESH_TRANSFER,
    "stager_callback": None,
    "stager_accepted": None,
    "stager_path": None,
    "stager_hostname": None,
    "destination_key": None,
}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt failed. `partial`: it may have left (part of) a file at the destination."""

    error_class: ErrorClass
    reason: str
    partial: bool = False
    details: str | None = None


class Failing:
    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config

    async def attempt(self, job: Job, failure: Failure, **columns: Any) -> Job:
        """Try again where the policy for this class of error allows it, else end in ERROR.

        A job whose cancellation was requested ends as CANCELLED. `columns` of the job are set along
        with it.
        """
        await reach(Point.FAILURE_SEEN)
        if job.cancel_requested is not None:
            return await self._cancelled(job, failure)
        retry = self._config.retry(failure.error_class)
        if job.attempt >= retry.attempts:
            return await self.end(job, failure, **columns)
        delay = float(retry.backoff) * 2 ** (job.attempt - 1)
        _log(job, failure).warning("attempt failed, trying again", delay=delay)
        event, fresh = self._restart(job, failure)
        job = await self._store.apply(
            job,
            event,
            delay=delay,
            attempt=job.attempt + 1,
            partial=job.partial or failure.partial,
            detailed_status=f"attempt {job.attempt} failed ({failure.reason}); trying again",
            fts_details=failure.details or job.fts_details,
            **{**fresh, **columns},
        )
        await reach(Point.RETRY_STORED)
        return job

    async def end(self, job: Job, failure: Failure, **columns: Any) -> Job:
        """ERROR, with the reason and what the submitter can do about it."""
        _log(job, failure).error("job failed")
        job = await self._store.apply(
            job,
            Event.FAIL,
            wake=("stage", "transfer"),
            error_class=failure.error_class.value,
            partial=job.partial or failure.partial,
            detailed_status=f"{failure.reason.rstrip('. ')}. {ADVICE[failure.error_class]}",
            fts_details=failure.details or job.fts_details,
            stager_callback=None,
            **columns,
        )
        await reach(Point.FAILURE_STORED)
        return job

    async def _cancelled(self, job: Job, failure: Failure) -> Job:
        left = f"; part of a file may be left in {job.destination_path}" if failure.partial else ""
        return await self._store.apply(
            job,
            Event.CANCEL,
            wake=("stage", "transfer"),
            detailed_status=f"cancelled on request{left}",
            fts_details=failure.details or job.fts_details,
        )

    def _restart(self, job: Job, failure: Failure) -> tuple[Event, dict[str, Any]]:
        lost_copy = failure.error_class is ErrorClass.SOURCE_MISSING
        if job.status is Status.STAGING or lost_copy:
            return Event.RESTAGE, dict(FRESH_STAGING)
        return Event.RETRANSFER, dict(FRESH_TRANSFER)


def _log(job: Job, failure: Failure) -> structlog.stdlib.BoundLogger:
    bound: structlog.stdlib.BoundLogger = log.bind(
        job_id=job.job_id,
        attempt=job.attempt,
        error_class=failure.error_class.value,
        reason=failure.reason,
    )
    return bound

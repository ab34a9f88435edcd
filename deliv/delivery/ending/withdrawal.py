"""Taking a transfer back from FTS: while it is copied, and after its job's end."""

from __future__ import annotations

from http import HTTPStatus

import structlog

from deliv.delivery.ending.failure import FailureHandler
from deliv.delivery.endpoints import EndpointResolver, sid
from deliv.errors import NoCredential, Refused
from deliv.gateways.fts import TransferOutcome, Verdict
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job

log = structlog.get_logger()


class Withdrawal:
    def __init__(self, endpoints: EndpointResolver, failures: FailureHandler) -> None:
        self._endpoints = endpoints
        self._failures = failures

    async def stop(self, job: Job) -> TransferOutcome | None:
        """Have FTS cancel a copy. The outcome when it has one, None when FTS never had the job.

        Unavailable, Refused: not confirmed.
        """
        if job.fts_jobid is None:
            return None
        try:
            endpoint = await self._endpoints.of(job)
        except NoCredential as error:  # it can't be stopped; what FTS was lent has ended as well
            return TransferOutcome(
                verdict=Verdict.CANCELLED,
                error_class=ErrorClass.CREDENTIAL,
                reason=f"FTS could not be asked to stop: {error}",
                partial=True,
            )
        try:
            await endpoint.cancel(job.fts_jobid)
        except Refused as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            return TransferOutcome(verdict=Verdict.FORBIDDEN, reason=str(error))
        # One that FTS does not know (any more) may have ended and be in its archive.
        return (await endpoint.details([job.fts_jobid])).get(job.fts_jobid)

    async def withdraw(self, job: Job) -> None:
        """See that FTS does nothing more for a job that has ended. Unavailable: not confirmed.

        A transfer that was taken over, and not posted yet, is its attempt's.
        """
        if job.fts_endpoint is None:
            return
        try:
            endpoint = await self._endpoints.of(job)
            fts_jobid = job.fts_jobid or await endpoint.job_id(sid(job))
        except NoCredential as error:  # what FTS was lent has ended with it
            log.warning("no credential to withdraw with", job_id=job.job_id, reason=str(error))
            return
        try:
            await endpoint.cancel(fts_jobid)
        except Refused as error:
            since = job.unseen_since or job.time_transferring
            forbidden = error.code == HTTPStatus.FORBIDDEN
            if not (forbidden and since and await self._failures.waited_out(since)):
                raise
            log.error("FTS lets deliv stop no transfer", job_id=job.job_id, reason=str(error))

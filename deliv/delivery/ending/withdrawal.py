"""Taking a transfer back from FTS: while it is copied, and after its job's end."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import structlog

from deliv.delivery.ending.failure import FailureHandler
from deliv.delivery.endpoints import EndpointResolver, sid
from deliv.errors import NoCredential, Refused
from deliv.gateways.fts import TransferOutcome, Verdict, forbidden
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job
from deliv.model.transfer import OpenTransfer
from deliv.store import Store

log = structlog.get_logger()


class Withdrawal:
    def __init__(self, store: Store, endpoints: EndpointResolver, failures: FailureHandler) -> None:
        self._store = store
        self._endpoints = endpoints
        self._failures = failures

    async def stop(self, job: Job, transfers: Sequence[OpenTransfer]) -> dict[str, TransferOutcome]:
        """Have FTS cancel a job's transfers. Their outcomes by id; none of one FTS never had.

        Unavailable, Refused: not confirmed.
        """
        ids = [transfer.fts_jobid for transfer in transfers]
        try:
            endpoint = await self._endpoints.of(job)
        except NoCredential as error:  # it can't be stopped; what FTS was lent has ended as well
            unstoppable = TransferOutcome(
                verdict=Verdict.CANCELLED,
                error_class=ErrorClass.CREDENTIAL,
                reason=f"FTS could not be asked to stop: {error}",
                partial=True,
            )
            return dict.fromkeys(ids, unstoppable)
        try:
            for fts_jobid in ids:
                await endpoint.cancel(fts_jobid)
        except Refused as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            return dict.fromkeys(ids, forbidden(str(error)))
        # One that FTS does not know (any more) may have ended and be in its archive.
        return await endpoint.details(ids)

    async def withdraw(self, job: Job, *, late: bool = False) -> None:
        """See that FTS does nothing more for a job that has ended. Unavailable: not confirmed.

        A transfer that was taken over, and not posted yet, is its attempt's. `late`: only the one
        that was posted when it was over; those that followed go on.
        """
        if job.fts_endpoint is None:
            return
        transfers = () if late else (await self._store.open_transfers([job]))[job.job_id]
        try:
            endpoint = await self._endpoints.of(job)
            last = job.fts_jobid or await endpoint.job_id(sid(job))
        except NoCredential as error:  # what FTS was lent has ended with it
            log.warning("no credential to withdraw with", job_id=job.job_id, reason=str(error))
            return
        try:
            for fts_jobid in {last, *(transfer.fts_jobid for transfer in transfers)}:
                await endpoint.cancel(fts_jobid)
        except Refused as error:
            since = job.unseen_since or job.time_transferring
            hidden = error.code == HTTPStatus.FORBIDDEN
            if not (hidden and since and await self._failures.waited_out(since)):
                raise
            log.error("FTS lets deliv stop no transfer", job_id=job.job_id, reason=str(error))

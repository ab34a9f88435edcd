"""After a job's end: FTS is stopped and the staged copy released, until both are confirmed.

The copy is released by the last of its jobs.
"""

from __future__ import annotations

import structlog

from deliv.config import Config
from deliv.delivery.ending.withdrawal import Withdrawal
from deliv.errors import Refused, Unavailable
from deliv.gateways.stager import Stager
from deliv.model.backoff import LONGEST_RELEASE_PAUSE, REFUSED_RELEASE_PAUSE, Backoff
from deliv.model.job import Job
from deliv.model.states import END_TIMES, Status
from deliv.store import Routing, Store

log = structlog.get_logger()


class Cleanup:
    def __init__(
        self, store: Store, stager: Stager, withdrawal: Withdrawal, config: Config
    ) -> None:
        self._store = store
        self._stager = stager
        self._withdrawal = withdrawal
        self._retry = Backoff(float(config.sweeps.ask_again), LONGEST_RELEASE_PAUSE)
        # There is room for another.
        self._released = () if config.limits.staging.bytes is None else (Routing.ADMIT,)

    async def clean_up(self, job: Job) -> None:
        """Stop what FTS may still do for an undelivered job, then release the staged copy."""
        try:
            if job.status is not Status.SUCCESS:
                await self._withdrawal.withdraw(job)
            job, staging = await self._store.leave_staging(job, wake=self._released)
            if job.time_released is not None:
                return
            await self._stager.release(staging.staging_id if staging else job.job_id)
        except Unavailable as error:
            ended = getattr(job, END_TIMES[job.status])
            delay = self._retry.after(await self._store.age(ended))
            first = delay == self._retry.first  # the others only at the level debug
            (log.warning if first else log.debug)(
                "clean-up postponed", job_id=job.job_id, reason=str(error)
            )
            await self._store.update(job, delay=delay)
        except Refused as error:
            log.error("clean-up refused", job_id=job.job_id, reason=str(error))
            await self._store.update(job, delay=REFUSED_RELEASE_PAUSE)
        else:
            await self._store.staging_given_back(staging, job, wake=self._released)

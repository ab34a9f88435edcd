"""Withdrawing a job: at once where nothing is being copied, else when FTS confirms it."""

from __future__ import annotations

import structlog

from deliv.config import Config
from deliv.delivery.transfers import Transfers
from deliv.errors import Conflict, LostRace, NotFound, Refused, Unavailable
from deliv.faults import Point, reach
from deliv.model import Job
from deliv.states import FINAL, Event, Status
from deliv.store import NOW, Store

log = structlog.get_logger()


class Cancelling:
    def __init__(self, store: Store, transfers: Transfers, config: Config) -> None:
        self._store = store
        self._transfers = transfers
        self._ask_again = float(config.sweeps.ask_again)
        self._on_its_way = 2 * float(config.fts.request_timeout)

    async def cancel(self, job_id: str) -> Job:
        """Withdraw a job; until FTS confirms it stays TRANSFERRING. Conflict: too late."""
        while True:
            job = await self._store.job(job_id)
            if job is None:
                raise NotFound(f"there is no job {job_id}")
            if job.status in FINAL:
                raise Conflict(f"the job has ended already: {job.status}")
            try:
                job = await self._begin(job)
            except LostRace:  # it moved on: what applies now?
                continue
            if job.status not in FINAL or job.status is Status.CANCELLED:
                return job

    async def proceed(self, job: Job) -> Job:
        """Have FTS stop a copy whose cancellation was requested; if it was faster, so be it."""
        try:
            outcome = await self._transfers.stop(job)
        except (Unavailable, Refused) as error:
            log.warning("FTS has not confirmed the cancellation", reason=str(error))
            return await self._store.update(job, delay=self._ask_again)
        if outcome is None:
            return await self._end(job, delay=self._on_its_way if job.fts_posted is None else 0)
        return await self._transfers.settle(job, outcome)

    async def _begin(self, job: Job) -> Job:
        if job.status is not Status.TRANSFERRING or job.fts_jobid is None:
            return await self._end(job, delay=0)
        job = await self._store.update(job, cancel_requested=NOW, delay=self._ask_again)
        await reach(Point.CANCEL_STORED)
        return await self.proceed(job)

    async def _end(self, job: Job, delay: float) -> Job:
        log.info("cancelled", job_id=job.job_id)
        job = await self._store.apply(
            job,
            Event.CANCEL,
            wake=("stage", "transfer"),
            delay=delay,
            stager_callback=None,
            detailed_status="cancelled on request",
        )
        await reach(Point.CANCELLATION_STORED)
        return job

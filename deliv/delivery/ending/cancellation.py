"""Ending a job early: its owner withdraws it, its deadline is over, or the policy forbids it.

At once where nothing is being copied, else when FTS confirms it.
"""

from __future__ import annotations

from typing import Any

import structlog

from deliv.config import Config
from deliv.delivery.ending.failure import Failure, FailureHandler
from deliv.delivery.ending.settlement import Settlement
from deliv.delivery.ending.withdrawal import Withdrawal
from deliv.errors import Conflict, LostRace, NotFound, Refused, Unavailable
from deliv.model.backoff import Backoff
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job
from deliv.model.phase import AT_FTS, Phase, phase
from deliv.model.rest import WAITING
from deliv.model.states import FINAL, Status
from deliv.store import NOW, Store

log = structlog.get_logger()

LONGEST = 60.0  # seconds between two tries of a cancellation that goes on failing
STOPPING = f"{WAITING}FTS has not confirmed yet that the copy is stopped: "


class Cancellation:
    def __init__(
        self,
        store: Store,
        withdrawal: Withdrawal,
        settlement: Settlement,
        failures: FailureHandler,
        config: Config,
    ) -> None:
        self._store = store
        self._withdrawal = withdrawal
        self._settlement = settlement
        self._failures = failures
        self._retry = Backoff(float(config.sweeps.ask_again), LONGEST)
        self._on_its_way = 2 * max(config.fts.request_timeout, config.stager.request_timeout)

    async def cancel(self, job_id: str) -> Job:
        """Withdraw a job; until FTS confirms it stays TRANSFERRING. Conflict: too late."""
        was_unfinished = False
        while True:
            job = await self._store.job(job_id)
            if job is None:
                raise NotFound(f"there is no job {job_id}")
            if job.status is Status.CANCELLED and was_unfinished:
                return job  # another worker has had FTS confirm what this call asked for
            if job.status in FINAL:
                raise Conflict(f"the job has ended already: {job.status}")
            was_unfinished = True
            try:
                if phase(job) not in AT_FTS:
                    return await self._failures.stopped(job, delay=self._delay(job))
                if job.cancel_requested is None:
                    job = await self._ask_to_stop(
                        job, delay=self._retry.first, cancel_requested=NOW
                    )
                job = await self.proceed(job)
            except LostRace:  # it moved on: what applies now?
                continue
            if job.status not in FINAL or job.status is Status.CANCELLED:
                return job

    async def expire(self, job_id: str) -> bool:
        """End a job whose deadline is over. Calls no server: True when FTS is to stop it, now."""
        job = await self._store.job(job_id)
        if job is None or job.status in FINAL:
            return False
        if phase(job) in AT_FTS:
            await self._ask_to_stop(job, delay=0, deadline_passed=NOW)
            return True
        copy = Failure(error_class=ErrorClass.DEADLINE, reason="")
        await self._failures.overdue(job, copy, delay=self._delay(job))
        return False

    async def forbid(self, job: Job, why: str) -> Job:
        """End a job that the policy does not allow any more, before FTS has taken it.

        It is withdrawn there all the same, where FTS may have taken it without deliv hearing so.
        """
        failure = Failure(
            error_class=ErrorClass.POLICY,
            reason=f"the delivery is not allowed any more: {why}",
            may_have_partial_file=job.fts_jobid is not None,
        )
        return await self._failures.end(job, failure, delay=self._delay(job))

    async def proceed(self, job: Job) -> Job:
        """Have FTS stop the copy of a job in STOPPING; if it was faster, so be it."""
        transfers = (await self._store.open_transfers([job]))[job.job_id]
        try:
            outcomes = await self._withdrawal.stop(job, transfers) if transfers else {}
        except (Unavailable, Refused) as error:
            status = f"{STOPPING}{error}"
            since = min(time for time in (job.cancel_requested, job.deadline_passed) if time)
            delay = self._retry.after(await self._store.age(since))
            again = (job.detailed_status or "").startswith(STOPPING)
            (log.debug if again else log.warning)(
                "FTS has not confirmed the cancellation", job_id=job.job_id, reason=str(error)
            )
            return await self._store.update(job, delay=delay, detailed_status=status)
        if not transfers or (job.report is None and not outcomes):
            # FTS may take it yet, or have had it once.
            copy = Failure(error_class=ErrorClass.CANCELLED, reason="", may_have_partial_file=True)
            return await self._failures.stopped(job, copy, delay=self._delay(job))
        for transfer in transfers:
            outcome = outcomes.get(transfer.fts_jobid)
            if outcome is None:
                job = await self._settlement.lost(job, transfer)
            else:
                job = await self._settlement.settle(job, transfer, outcome)
            if job.status in FINAL:
                break
        return job

    async def _ask_to_stop(self, job: Job, *, delay: float, **columns: Any) -> Job:
        """Until FTS has answered the job shows that this is what it waits for."""
        status = f"{STOPPING}it is being asked"
        return await self._store.update(job, delay=delay, detailed_status=status, **columns)

    def _delay(self, job: Job) -> float:
        """Seconds until a request that may be on its way to the stager or to FTS has arrived."""
        at = phase(job)
        asking = at is Phase.ASKING_STAGER and job.stager_callback is not None
        posting = at in AT_FTS and job.fts_posted is None
        return self._on_its_way if asking or posting else 0

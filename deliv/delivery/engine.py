"""What to do next for a job: the one place that maps its state to an action.

A job that is not at rest has a due time. A message from the broker makes it be looked at now; the
sweep looks at whatever is overdue, so that no message is ever needed for a job to go on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from deliv.config import Config
from deliv.delivery import claim
from deliv.delivery.ending.cancellation import Cancellation
from deliv.delivery.ending.cleanup import Cleanup
from deliv.delivery.permission import Permission
from deliv.delivery.stage import Staging
from deliv.delivery.transfer import Transfers
from deliv.errors import LostRace
from deliv.failpoints import Point, reach
from deliv.model.job import Job
from deliv.model.states import FINAL, Status
from deliv.store import Store

log = structlog.get_logger()

Action = Callable[[Job], Awaitable[object]]


class Engine:
    def __init__(
        self,
        store: Store,
        staging: Staging,
        transfers: Transfers,
        cancelling: Cancellation,
        closing: Cleanup,
        permission: Permission,
        config: Config,
    ) -> None:
        self._store = store
        self._staging = staging
        self._transfers = transfers
        self._cancelling = cancelling
        self._closing = closing
        self._permission = permission
        self._config = config
        # By these a job goes on to the stager and to FTS, if the policy still allows it.
        self._onward: tuple[Action, ...] = (staging.request, transfers.start, transfers.post)

    async def admit_next(self) -> bool:
        """Admit whoever is next by fairness and caps; False when nobody may be."""
        job = await self._store.admit(self._config.limits)
        if job is None:
            return False
        await reach(Point.JOB_ADMITTED)
        await self.attend(job.job_id)
        return True

    async def attend(self, job_id: str) -> None:
        """Do what a job needs now. Nothing when it is not due: somebody else has it in hand."""
        claim.begin(self._config.sweeps.hold)
        job = await self._store.take(job_id, float(self._config.sweeps.hold))
        if job is None:
            return
        await reach(Point.STEP_TAKEN)
        try:
            action = self._action(job)
            allowed = await self._permission.granted(job) if action in self._onward else job
            if allowed is not None:
                await action(allowed)
        except LostRace as error:
            log.info("job moved on meanwhile", job_id=job_id, reason=str(error))

    async def expire(self, job_id: str) -> None:
        """End a job whose deadline is over."""
        try:
            await self._cancelling.expire(job_id)
        except LostRace as error:
            log.info("job moved on meanwhile", job_id=job_id, reason=str(error))

    def _action(self, job: Job) -> Action:
        if job.status in FINAL:
            return self._closing.close if self._closing.needed(job) else self._rest
        if job.status is Status.STAGING:
            return self._staging_action(job)
        return self._transferring_action(job)

    def _staging_action(self, job: Job) -> Action:
        if job.time_staged is not None:
            return self._transfers.start
        return self._staging.time_out if job.stager_accepted else self._staging.request

    def _transferring_action(self, job: Job) -> Action:
        if job.is_to_end:
            return self._cancelling.proceed
        if job.fts_posted is not None:
            return self._rest  # polled by the periodic callbacks
        return self._transfers.post if job.fts_jobid else self._transfers.start

    async def _rest(self, job: Job) -> None:
        await self._store.update(job, delay=None)

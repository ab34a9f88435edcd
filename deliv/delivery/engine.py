"""What to do next for a job: the action of its phase (deliv/model/phase.py) is done here.

A job that is not at rest has a due time. A message from the broker makes it be looked at now; the
sweep looks at whatever is overdue, so that no message is ever needed for a job to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from deliv.config import Config
from deliv.delivery import claim
from deliv.delivery.ending.cancellation import Cancellation
from deliv.delivery.ending.cleanup import Cleanup
from deliv.delivery.patience import Patience
from deliv.delivery.permission import Permission
from deliv.delivery.stage import Staging
from deliv.delivery.transfer import FtsTransfers
from deliv.errors import LostRace
from deliv.model.job import Job
from deliv.model.phase import ACTIONS, JobAction, has_place, phase
from deliv.store import Store

log = structlog.get_logger()

Step = Callable[[Job], Awaitable[object]]

# Seconds: a staged job that was not given a place at FTS is looked at then. One that waits is left
# alone, and who is next is seen without it; the release before hands it over when it is due.
LATEST_LOOK = 3600.0
# By these a job goes on to the stager and to FTS, if the policy still allows it.
ONWARD = frozenset({JobAction.REQUEST_STAGING, JobAction.START_TRANSFER, JobAction.POST_TRANSFER})
# Not begun while its destination rests.
BEGINNING = frozenset({JobAction.REQUEST_STAGING, JobAction.START_TRANSFER})


class Engine:
    def __init__(
        self,
        store: Store,
        staging: Staging,
        transfers: FtsTransfers,
        cancellation: Cancellation,
        cleanup: Cleanup,
        permission: Permission,
        patience: Patience,
        config: Config,
    ) -> None:
        self._store = store
        self._patience = patience
        self._requests = staging.requests
        self._transfers = transfers
        self._cancellation = cancellation
        self._permission = permission
        self._config = config
        self._steps: dict[JobAction, Step] = {
            JobAction.REQUEST_STAGING: staging.proceed,
            JobAction.CHECK_STAGING_DEADLINE: staging.proceed,
            JobAction.START_TRANSFER: self._start_transfer,
            JobAction.POST_TRANSFER: transfers.post,
            JobAction.HAND_OVER_MORE: self._hand_over_more,
            JobAction.STOP_TRANSFER: cancellation.proceed,
            JobAction.CLEAN_UP: cleanup.clean_up,
            JobAction.REST: self._rest,
        }

    async def admit_next(self) -> bool:
        """Admit whoever is next by fairness and caps, to the archive and to FTS; False if none is.

        Neither keeps the other waiting.
        """
        both = self._ask_for_next(), self._hand_over_next()
        results = await asyncio.gather(*both, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return any(results)

    async def attend(self, job_id: str) -> None:
        """Do what a job needs now. Nothing when it is not due: another worker has claimed it."""
        timeout = float(self._config.sweeps.hold)
        claim.begin(timeout)
        job = await self._store.claim(job_id, timeout)
        if job is None:
            return
        action = ACTIONS[phase(job)]
        try:
            going: Job | None = job
            if action in ONWARD:
                going = await self._permission.granted(job)
            if going is not None and action in BEGINNING:
                going = await self._patience.released(going)
            if going is not None:
                await self._steps[action](going)
        except LostRace as error:
            log.info("job moved on meanwhile", job_id=job_id, reason=str(error))

    async def attend_staging(self, staging_id: str) -> None:
        """Do what a staging needs now. Nothing when it is not due."""
        try:
            await self._requests.attend(staging_id)
        except LostRace as error:
            log.info("staging moved on meanwhile", job_id=staging_id, reason=str(error))

    async def expire(self, job_id: str) -> bool:
        """End a job whose deadline is over. Calls no server: True when it is to be attended now."""
        try:
            return await self._cancellation.expire(job_id)
        except LostRace as error:
            log.info("job moved on meanwhile", job_id=job_id, reason=str(error))
            return False

    async def _ask_for_next(self) -> bool:
        job = await self._store.admit(self._config.limits.staging, self._config.rest_rules)
        if job is not None:
            await self.attend(job.job_id)
        return job is not None

    async def _hand_over_next(self) -> bool:
        if not self._transfers.possible:  # while FTS is out no turn is wasted
            return False
        job = await self._store.give_fts_place(self._config.limits)
        if job is not None:
            await self.attend(job.job_id)
        return job is not None

    async def _start_transfer(self, job: Job) -> None:
        if has_place(job):
            await self._transfers.start(job)
            return
        await self._store.join_fts_queue(job, LATEST_LOOK)
        await self._hand_over_next()

    async def _hand_over_more(self, job: Job) -> None:
        """Of a job that the policy does not allow any more, what FTS has goes on, and no more."""
        if job.report is not None and self._permission.allows(job):
            await self._transfers.start_another(job)
        else:  # and others do not wait for a turn that it does not take
            await self._store.update(job, delay=None, turn_since=None)

    async def _rest(self, job: Job) -> None:
        await self._store.update(job, delay=None)

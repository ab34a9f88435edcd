"""What a staging needs of the stager: to be asked, waited for, and to give the copy back.

Whoever opens a staging attends to it; the sweep sees to what is due, so that none of this depends
on a certain job.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from deliv.config import Config
from deliv.delivery import authcode, claim
from deliv.delivery.ending.failure import FailureHandler
from deliv.delivery.manifest import BATCH
from deliv.delivery.waiting import no_longer_waiting
from deliv.errors import LostRace, Refused, Unavailable
from deliv.gateways.stager import Stager
from deliv.model.backoff import LONGEST_RELEASE_PAUSE, REFUSED_RELEASE_PAUSE, Backoff
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job
from deliv.model.rest import Cause
from deliv.model.staging import SharedStaging, StagingState
from deliv.model.states import FINAL
from deliv.store import NOW, Store
from deliv.store.columns import KEEP

log = structlog.get_logger()

AT_ONCE = Backoff(0, 0)
ACCEPTED = "accepted"  # the status of what nothing was heard of since
# Between the looks whether a report was lost: refused when a clock was wrong, or forgotten with
# what a restored database did not know.
LOOKS = Backoff(300, 3600)
REPORT_MAY_COME = 60.0  # seconds
GIVEN_BACK = frozenset({StagingState.RELEASING, StagingState.RELEASED})


class StagerRequests:
    def __init__(
        self, store: Store, stager: Stager, failures: FailureHandler, config: Config
    ) -> None:
        self._store = store
        self._stager = stager
        self._failures = failures
        self._timeout = float(config.stager.timeout)
        self._ask_again = float(config.sweeps.ask_again)
        self._claim_timeout = float(config.sweeps.hold)
        self._retry = Backoff(self._ask_again, LONGEST_RELEASE_PAUSE)

    async def attend(self, staging_id: str) -> None:
        """Do what it needs now. LostRace.

        Nothing when it is not due: another worker has claimed it.
        """
        claim.begin(self._claim_timeout)
        staging = await self._store.claim_staging(staging_id, self._claim_timeout)
        if staging is None:
            return
        match staging.state:
            case StagingState.ASKING:
                await self._ask(staging)
            case StagingState.WAITING:
                await self._look_after(staging)
            case StagingState.RELEASING:
                await self._give_back(staging)
            case StagingState.RELEASED:
                while await self._store.discard_staging_files(staging_id, None, BATCH):
                    pass
                await self._store.update_staging(staging, delay=None)
            case _:
                await self._store.update_staging(staging, delay=None)

    async def fail(
        self, staging: SharedStaging, error_class: ErrorClass, reason: str, **columns: Any
    ) -> None:
        """Each of its jobs goes on from there by itself."""
        await self._store.update_staging(
            staging,
            delay=None,
            wake=True,
            state=StagingState.FAILED,
            error_class=error_class.value,
            reason=reason,
            **columns,
        )

    async def repeat(
        self,
        staging_id: str,
        outdated: str,
        pause: Backoff,
        awaited: frozenset[StagingState],
    ) -> None:
        """The stager works for a code that does not count: that with the digest `outdated`.

        No copy may remain that is not released, and a staging in a state of `awaited` must not
        expect a code that the stager has not.
        """
        while staging := await self._store.staging(staging_id):
            try:
                if staging.state in GIVEN_BACK:
                    releasing = StagingState.RELEASING
                    await self._store.update_staging(staging, delay=0, state=releasing)
                elif staging.state in awaited and staging.code not in {None, outdated}:
                    delay = pause.after(await self._store.age(staging.begun))
                    await self.ask_again(staging, delay)
            except LostRace:  # it moved on: what applies now?
                continue
            return
        await self._release_again(staging_id)

    async def ask_again(self, staging: SharedStaging, delay: float) -> None:
        """After `delay` seconds; until then the report is taken that may still come. LostRace."""
        await self._store.update_staging(
            staging, delay=delay, tell={"stager_accepted": None}, state=StagingState.ASKING
        )

    async def _ask(self, staging: SharedStaging) -> None:
        """With a new code whose digest is stored before it is sent.

        It is done once, however late: that deliv or the stager was away says nothing about the
        product.
        """
        code = authcode.new()
        staging = await self._store.update_staging(staging, code=authcode.digest(code))
        claim.check()
        try:
            try:
                await self._stager.stage(staging, code)
            except Unavailable as error:
                await self._wait(staging, error)
            except Refused as error:
                await self.fail(staging, ErrorClass.STAGER, str(error))
            else:
                await self._store.update_staging(
                    staging,
                    delay=min(self._timeout, LOOKS.first),
                    tell={"stager_accepted": NOW, "stager_status": ACCEPTED},
                    state=StagingState.WAITING,
                    accepted=NOW,
                    status=ACCEPTED,
                )
                await self._each(staging, self._goes_on)
        except LostRace:
            awaited = frozenset({StagingState.ASKING, StagingState.WAITING})
            await self.repeat(staging.staging_id, staging.code or "", AT_ONCE, awaited)
            raise

    async def _wait(self, staging: SharedStaging, error: Unavailable) -> None:
        """For a stager that is not reached."""
        log.warning("stager unreachable", job_id=staging.staging_id, reason=str(error))
        status = f"not reached yet: {error}"
        await self._store.update_staging(staging, delay=self._ask_again, status=status)
        why = f"the stager can't be reached: {error}"

        async def waits(job: Job) -> None:
            await self._failures.wait(job, Cause.ARCHIVE, why, KEEP, stager_status=status)

        await self._each(staging, waits)

    async def _goes_on(self, job: Job) -> None:
        if going_on := no_longer_waiting(job):
            await self._store.update(job, **going_on)

    async def _each(self, staging: SharedStaging, work: Callable[[Job], Awaitable[None]]) -> None:
        """For each of the jobs that wait for it."""
        for job in await self._store.waiting_for(staging):
            try:
                await work(job)
            except LostRace as error:
                log.info("job moved on meanwhile", job_id=job.job_id, reason=str(error))

    async def _look_after(self, staging: SharedStaging) -> None:
        """End one that outlived `stager.timeout`; before that ask again where its report was lost.

        Not for ever: a stager may report again and again what deliv refuses.
        """
        left, age = await self._left(staging), await self._store.age(staging.begun)
        if left > 0 or not await self._store.time_is_noted():
            if age < self._timeout and await self._has_reported(staging):
                log.warning("the stager's report was lost: asking again", job_id=staging.staging_id)
                await self.ask_again(staging, REPORT_MAY_COME)
                return
            delay = min(left if left > 0 else self._ask_again, LOOKS.after(age))
            await self._store.update_staging(staging, delay=delay)
            return
        seconds = round(self._timeout)
        reason = f"the stager did not deliver within {seconds} s (stager: {staging.status})"
        await self.fail(staging, ErrorClass.TIMEOUT, reason)

    async def _has_reported(self, staging: SharedStaging) -> bool:
        """Whether it has, by its own word, and deliv knows nothing of that."""
        if staging.status != ACCEPTED:
            return False
        try:
            return bool(await self._stager.has_reported(staging.staging_id))
        except (Unavailable, Refused) as error:
            log.debug("the stager does not say", job_id=staging.staging_id, reason=str(error))
            return False

    async def _left(self, staging: SharedStaging) -> float:
        """Seconds until its deadline; the stager's, once it has accepted."""
        return self._timeout - await self._store.age(staging.accepted or staging.begun)

    async def _give_back(self, staging: SharedStaging) -> None:
        claim.check()
        try:
            await self._stager.release(staging.staging_id)
        except Unavailable as error:
            log.warning("release postponed", job_id=staging.staging_id, reason=str(error))
            since = staging.closed or staging.begun
            delay = self._retry.after(await self._store.age(since))
            await self._store.update_staging(staging, delay=delay)
        except Refused as error:
            log.error("release refused", job_id=staging.staging_id, reason=str(error))
            await self._store.update_staging(staging, delay=REFUSED_RELEASE_PAUSE)
        else:
            await self._store.staging_given_back(staging)

    async def _release_again(self, job_id: str) -> None:
        """For a job that the release before has staged alone, and that has ended."""
        version = None
        while (job := await self._store.job(job_id)) and job.version != version:
            version = job.version  # that of an archived job stays as it is
            if job.status in FINAL and job.staging_id is None:
                try:
                    await self._store.update(job, delay=0, time_released=None)  # cleaned up again
                except LostRace:  # it moved on: what applies now?
                    continue
            return

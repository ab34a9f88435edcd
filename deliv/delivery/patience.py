"""Patience: jobs rest while their destination does, and are given up when that lasts too long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from deliv.config import Config
from deliv.delivery import claim
from deliv.delivery.ending.failure import FRESH_STAGING, FailureHandler
from deliv.delivery.waiting import no_longer_waiting
from deliv.errors import LostRace, Refused, Unavailable
from deliv.gateways.stager import Stager
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.rest import Cause, Rest
from deliv.model.states import FINAL, Event
from deliv.store import Store, waiting

log = structlog.get_logger()

QUEUED_AGAIN: dict[str, Any] = {
    **FRESH_STAGING,
    "rest": None,
    "let_go": None,
    "waiting_for": None,
    "waiting_since": None,
    "detailed_status": None,
}
MOST = 100  # places, or jobs to be given up, in one look
MOST_COPIES = 20  # that are given back in one look, as others wait


class Patience:
    def __init__(
        self, store: Store, stager: Stager, failures: FailureHandler, config: Config
    ) -> None:
        self._store = store
        self._stager = stager
        self._failures = failures
        self._rules = config.rest_rules
        self._limits = config.limits.staging
        self._ask_again = float(config.sweeps.ask_again)

    async def holds(self, job: Job) -> bool:
        """Whether the job is to begin nothing more: a place of its rests, and it does not try."""
        return _holds(job, await self._store.rest_of(job))

    async def released(self, job: Job) -> Job | None:
        """The job, which may go on; None when it rests: then it waits."""
        rest = None
        if job.fts_endpoint is None:  # else FTS may have it
            rest = await self._store.rest_of(job)
        if rest is None or not _holds(job, rest):
            if job.rest is None or job.let_go is not None:
                return job
            return await self._store.update(job, rest=None, **no_longer_waiting(job))
        if phase(job) is Phase.ASKING_STAGER:
            await self._requeue(job)
        else:
            await self._keep_copy(job, rest)
        return None

    async def keep_trying(self) -> int:
        """One look at all that rests: what is tried again, let go, given up; how many of each."""
        done = await self._store.try_rests(self._rules, MOST)
        done += await self._store.free_rested(self._rules, 5 * MOST)
        for job_id, rest in (await self._store.tired(self._rules, MOST)).items():
            job = await self._store.job(job_id)
            if job is None or job.status in FINAL:
                continue
            done += 1
            with _log_lost_race(job):
                await self._failures.give_up(job, rest)
        for job in await self._store.in_the_way(self._limits, MOST_COPIES):
            done += 1
            with _log_lost_race(job):
                await self._give_copy_back(job, "others wait to be staged")
        return done

    async def _keep_copy(self, job: Job, rest: Rest) -> None:
        """A staged job keeps its copy for some time, and has it staged again later."""
        since = max(time for time in (rest.waited_since(job), job.time_staged) if time)
        left = self._rules.keep_staged - await self._store.age(since)
        if left > 0:
            await self._store.rest(job, rest, left)
        else:
            await self._give_copy_back(job, rest.hindrance())

    async def _give_copy_back(self, job: Job, why: str) -> None:
        log.info("a staged copy is given back", job_id=job.job_id, reason=why)
        changes: dict[str, Any] = {
            "attempt": job.attempt + 1,
            "excused": job.excused + 1,
            **FRESH_STAGING,
        }
        await self._store.apply(job, Event.RESTAGE, **changes)

    async def _requeue(self, job: Job) -> None:
        """Nothing is staged for it: it waits for its turn again, where it was in the queue.

        What the stager may have for it alone, by the release before or since before a restore, is
        given back first. A staging that no other job needs is seen by the sweep.
        """
        if job.staging_id is None and await self._store.staging(job.job_id) is None:
            claim.check()
            try:
                await self._stager.release(job.job_id)
            except Unavailable as error:
                why = f"the stager can't be reached to give the copy back: {error}"
                columns = waiting(job, Cause.ARCHIVE, why)
                await self._store.update(job, delay=self._ask_again, **columns)
                return
            except Refused as error:  # it is asked once more before the product is staged again
                log.error("staged copy not released", job_id=job.job_id, reason=str(error))
        age = await self._store.age(job.time_submitted)
        log.info("back in the queue, as its destination rests", job_id=job.job_id)
        await self._store.apply(job, Event.REQUEUE, delay=-age, **QUEUED_AGAIN)


def _holds(job: Job, rest: Rest | None) -> bool:
    return rest is not None and (job.let_go is None or job.rest != rest.place_key)


@contextmanager
def _log_lost_race(job: Job) -> Iterator[None]:
    try:
        yield
    except LostRace as error:
        log.info("job moved on meanwhile", job_id=job.job_id, reason=str(error))

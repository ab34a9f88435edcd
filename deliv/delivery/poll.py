"""Asking FTS how its transfers fare: cheaply what just ended, now and then everything.

FTS shows a job to its own identity only: to deliv's, or to that of a user who has delegated. So it
is asked once for deliv and once for each user who has copies in hand there.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial

import structlog

from deliv.delivery.endpoints import EndpointResolver
from deliv.delivery.transfer import Transfers
from deliv.errors import LostRace, NoCredential, Refused, Unavailable
from deliv.gateways.fts import Endpoint, Verdict
from deliv.model.job import Job, TransferIdentity
from deliv.store import Delegations, Fence, Store

log = structlog.get_logger()

SLACK_MINUTES = 2  # FTS counts whole minutes on its own clock
FIRST_LOOK_MINUTES = 60
PAGE = 500
AT_ONCE = 8  # users that FTS is asked about
SERVICE = ""  # in place of a user's DN


class Polling:
    """One FTS endpoint's transfers. `misses` unknown answers in a row make a job lost."""

    def __init__(
        self,
        store: Store,
        transfers: Transfers,
        copiers: EndpointResolver,
        delegations: Delegations,
        endpoint: Endpoint,
        misses: int,
    ) -> None:
        self._store = store
        self._transfers = transfers
        self._copiers = copiers
        self._delegations = delegations
        self._endpoint = endpoint
        self._misses = misses
        self._last: dict[str, float] = {}

    async def poll_once(self) -> int:
        """Settle the jobs that ended since the last look; returns how many."""
        users = await self._delegations.copying(self._endpoint.name)
        self._last = {who: self._last[who] for who in (SERVICE, *users) if who in self._last}
        ended = await self._poll(self._endpoint, SERVICE)
        gate = asyncio.Semaphore(AT_ONCE)
        return ended + sum(await asyncio.gather(*(self._poll_user(dn, gate) for dn in users)))

    async def reconcile_once(self, older_than: float, fence: Callable[[], Fence | None]) -> int:
        """Look at the jobs posted `older_than` seconds ago that FTS does not list as running.

        Misses are counted under the `fence` of this work only: once in each round.
        """
        running: dict[str, Collection[str]] = {SERVICE: await self._endpoint.unfinished()}
        cursor, looked_at = "", 0
        while page := await self._store.transferring(
            self._endpoint.name, older_than=older_than, after=cursor, limit=PAGE
        ):
            cursor = page[-1].job_id
            for who, jobs in _by_identity(page).items():
                looked_at += await self._reconcile(who, jobs, running, fence)
        return looked_at

    async def _poll(self, endpoint: Endpoint, who: str) -> int:
        started = time.monotonic()
        ended = await endpoint.finished(self._window(who, started))
        jobs = await self._store.by_fts(self._endpoint.name, list(ended))
        own = [job for job in jobs if _identity(job) == who]
        await self._settle(endpoint, own)
        self._last[who] = started
        return len(own)

    async def _poll_user(self, dn: str, gate: asyncio.Semaphore) -> int:
        """One user's trouble keeps nobody else waiting."""
        async with gate:
            try:
                endpoint = await self._copiers.as_user(dn, self._endpoint.name)
                return await self._poll(endpoint, dn)
            except (Unavailable, Refused, NoCredential) as error:
                log.warning("FTS can't be asked for a user", dn=dn, reason=str(error))
                return 0

    async def _reconcile(
        self,
        who: str,
        jobs: Sequence[Job],
        running: dict[str, Collection[str]],
        fence: Callable[[], Fence | None],
    ) -> int:
        """`running` is filled with what FTS lists for each identity, asked once in a round."""
        try:
            endpoint = await self._acting(who)
            if who not in running:
                running[who] = await endpoint.unfinished()
            missing = [job for job in jobs if job.fts_jobid not in running[who]]
            known = [job for job in jobs if job.fts_jobid in running[who]]
            await self._each(known, partial(self._met, fence=fence()))
            await self._settle(endpoint, missing, fence())
        except NoCredential as error:
            await self._each(jobs, partial(self._missed, fence=fence(), error=error))
            return len(jobs)
        except (Unavailable, Refused) as error:
            if who == SERVICE:
                raise
            log.warning("FTS can't be asked for a user", dn=who, reason=str(error))
            return 0
        return len(missing)

    async def _acting(self, who: str) -> Endpoint:
        if who == SERVICE:
            return self._endpoint
        return await self._copiers.as_user(who, self._endpoint.name)

    async def _settle(
        self, endpoint: Endpoint, jobs: Sequence[Job], fence: Fence | None = None
    ) -> None:
        details = await endpoint.details([job.fts_jobid for job in jobs if job.fts_jobid])

        async def conclude(job: Job) -> None:
            outcome = details.get(job.fts_jobid or "")
            if outcome is None:
                await self._missed(job, fence)
                return
            job = await self._transfers.settle(job, outcome)
            if outcome.verdict is Verdict.RUNNING:
                await self._met(job, fence)

        await self._each(jobs, conclude)

    async def _each(self, jobs: Iterable[Job], work: Callable[[Job], Awaitable[object]]) -> None:
        for job in jobs:
            try:
                await work(job)
            except LostRace:
                log.info("settled elsewhere", job_id=job.job_id)

    async def _met(self, job: Job, fence: Fence | None) -> None:
        """FTS knows the job: what it did not know before counts no more."""
        if fence is not None and job.fts_misses:
            await self._store.update(job, fence=fence, fts_misses=0)

    async def _missed(
        self, job: Job, fence: Fence | None, error: NoCredential | None = None
    ) -> None:
        """`error`: until a user delegates anew nothing is known of their copies; not for ever."""
        if fence is None:
            return
        misses = job.fts_misses + 1
        if misses < self._misses:
            await self._store.update(job, fence=fence, fts_misses=misses)
        elif error is not None:
            await self._transfers.out_of_sight(job, error)
        else:
            await self._transfers.lost(job)

    def _window(self, who: str, now: float) -> int:
        last = self._last.get(who)
        if last is None:
            return FIRST_LOOK_MINUTES
        return math.ceil((now - last) / 60) + SLACK_MINUTES


def _identity(job: Job) -> str:
    return job.submitter if job.copied_as is TransferIdentity.USER else SERVICE


def _by_identity(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        found[_identity(job)].append(job)
    return found

"""Asking FTS how its transfers fare: cheaply what just ended, now and then everything.

FTS shows a job to its own identity only: to deliv's, or to that of a user who has delegated. So it
is asked once for deliv and once for each user who has copies there.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog

from deliv.delivery.ending.settlement import Settlement
from deliv.delivery.endpoints import EndpointResolver
from deliv.delivery.waiting import no_longer_waiting
from deliv.errors import LostRace, NoCredential, Refused, Unavailable
from deliv.gateways.fts import Endpoint, TransferOutcome, Verdict
from deliv.model.job import Job
from deliv.ops import metrics
from deliv.store import Delegations, Fence, Store

log = structlog.get_logger()

SLACK_MINUTES = 2  # FTS counts whole minutes on its own clock
FIRST_LOOK_MINUTES = 60
PAGE = 500
AT_ONCE = 8  # users that FTS is asked about
SERVICE = None  # in place of a user's DN


class Polling:
    """One FTS endpoint's transfers.

    A job that FTS does not know so many times in a row, `not_found_limit`, is lost.
    """

    def __init__(
        self,
        store: Store,
        settlement: Settlement,
        endpoints: EndpointResolver,
        delegations: Delegations,
        endpoint: Endpoint,
        not_found_limit: int,
    ) -> None:
        self._store = store
        self._settlement = settlement
        self._endpoints = endpoints
        self._delegations = delegations
        self._endpoint = endpoint
        self._not_found_limit = not_found_limit
        self._last: dict[str | None, float] = {}

    async def poll_once(self) -> int:
        """Settle the jobs that ended since the last look; returns how many."""
        users = await self._delegations.copying(self._endpoint.name)
        self._last = {who: self._last[who] for who in (SERVICE, *users) if who in self._last}
        ended = await self._poll(self._endpoint, SERVICE)
        gate = asyncio.Semaphore(AT_ONCE)
        return ended + sum(await asyncio.gather(*(self._poll_user(dn, gate) for dn in users)))

    async def reconcile_once(self, older_than: float, fence: Callable[[], Fence | None]) -> int:
        """Look at the jobs posted `older_than` seconds ago that FTS does not list as running.

        What FTS does not know is counted under the `fence` of this work only: once in each round.
        """
        running: dict[str | None, Collection[str]] = {SERVICE: await self._endpoint.running()}
        cursor, looked_at = "", 0
        while page := await self._store.transferring(
            self._endpoint.name, older_than=older_than, after=cursor, limit=PAGE
        ):
            cursor = page[-1].job_id
            by_identity = defaultdict(list)
            for job in page:
                by_identity[job.copying_user].append(job)
            for who, jobs in by_identity.items():
                looked_at += await self._reconcile(who, jobs, running, fence)
        return looked_at

    async def _poll(self, endpoint: Endpoint, who: str | None) -> int:
        started = time.monotonic()
        minutes = FIRST_LOOK_MINUTES
        if who in self._last:
            minutes = math.ceil((started - self._last[who]) / 60) + SLACK_MINUTES
        ended = await endpoint.finished(minutes)
        jobs = await self._store.by_fts(self._endpoint.name, list(ended))
        own = [job for job in jobs if job.copying_user == who]
        await self._settle(endpoint, own)
        self._last[who] = started
        return len(own)

    async def _poll_user(self, dn: str, gate: asyncio.Semaphore) -> int:
        """One user's trouble keeps no other waiting."""
        async with gate:
            try:
                endpoint = await self._endpoints.as_user(dn, self._endpoint.name)
                return await self._poll(endpoint, dn)
            except (Unavailable, Refused, NoCredential) as error:
                log.warning("FTS can't be asked for a user", dn=dn, reason=str(error))
                return 0

    async def _reconcile(
        self,
        who: str | None,
        jobs: Sequence[Job],
        running: dict[str | None, Collection[str]],
        fence: Callable[[], Fence | None],
    ) -> int:
        """`running` is filled with what FTS lists for each identity, asked once in a round."""
        try:
            endpoint = self._endpoint
            if who is not None:
                endpoint = await self._endpoints.as_user(who, endpoint.name)
            if who not in running:
                running[who] = await endpoint.running()
            missing = [job for job in jobs if job.fts_jobid not in running[who]]
            known = [job for job in jobs if job.fts_jobid in running[who]]
            await self._each(known, partial(self._found, fence=fence()))
            await self._settle(endpoint, missing, fence())
        except NoCredential as error:
            await self._each(jobs, partial(self._settlement.out_of_sight, error=error))
            return len(jobs)
        except (Unavailable, Refused) as error:
            if who is None:
                raise
            if isinstance(error, Refused) and error.code == HTTPStatus.FORBIDDEN:
                hidden = TransferOutcome(verdict=Verdict.FORBIDDEN, reason=str(error))
                await self._each(jobs, partial(self._settlement.settle, outcome=hidden))
            log.warning("FTS can't be asked for a user", dn=who, reason=str(error))
            return 0
        return len(missing)

    async def _settle(
        self, endpoint: Endpoint, jobs: Sequence[Job], fence: Fence | None = None
    ) -> None:
        details = await endpoint.details([job.fts_jobid for job in jobs if job.fts_jobid])

        async def conclude(job: Job) -> None:
            outcome = details.get(job.fts_jobid or "")
            if outcome is None:
                await self._not_found(job, fence)
                return
            job = await self._settlement.settle(job, outcome)
            if outcome.verdict is Verdict.RUNNING:
                await self._found(job, fence)

        await self._each(jobs, conclude)

    async def _each(self, jobs: Iterable[Job], work: Callable[[Job], Awaitable[object]]) -> None:
        """A job whose answer can't be taken, by the database say, keeps no other waiting."""
        for job in jobs:
            try:
                await work(job)
            except LostRace:
                log.info("settled elsewhere", job_id=job.job_id)
            except Unavailable:
                raise
            except Exception:
                metrics.FTS_UNUSABLE_ANSWERS.labels(endpoint=self._endpoint.name).inc()
                log.exception("FTS's answer about a job can't be taken", job_id=job.job_id)

    async def _found(self, job: Job, fence: Fence | None) -> None:
        """FTS knows the job, and shows it: the count begins again."""
        if fence is not None and (job.fts_misses or job.unseen_since):
            seen: dict[str, Any] = {"fts_misses": 0, "unseen_since": None, **no_longer_waiting(job)}
            await self._store.update(job, fence=fence, **seen)

    async def _not_found(self, job: Job, fence: Fence | None) -> None:
        if fence is None:
            return
        not_found_count = job.fts_misses + 1
        if not_found_count < self._not_found_limit:
            counted: dict[str, Any] = {"fts_misses": not_found_count, "unseen_since": None}
            await self._store.update(job, fence=fence, **counted)
        else:
            await self._settlement.lost(job)

"""Asking FTS how its transfers fare: cheaply what just ended, now and then everything."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import structlog

from deliv.delivery.transfers import Transfers
from deliv.errors import LostRace
from deliv.fts import Endpoint
from deliv.model import Job
from deliv.store import Fence, Store

log = structlog.get_logger()

SLACK_MINUTES = 2  # FTS counts whole minutes on its own clock
FIRST_LOOK_MINUTES = 60
PAGE = 500


class Polling:
    """One FTS endpoint's transfers. `misses` unknown answers in a row make a job lost."""

    def __init__(self, store: Store, transfers: Transfers, endpoint: Endpoint, misses: int) -> None:
        self._store = store
        self._transfers = transfers
        self._endpoint = endpoint
        self._misses = misses
        self._last: float | None = None

    async def poll_once(self) -> int:
        """Settle the jobs that ended since the last look; returns how many."""
        started = time.monotonic()
        ended = await self._endpoint.finished(self._window(started))
        jobs = await self._store.by_fts(self._endpoint.name, list(ended))
        await self._settle(jobs)
        self._last = started
        return len(jobs)

    async def reconcile_once(self, older_than: float, fence: Callable[[], Fence | None]) -> int:
        """Look at the jobs posted `older_than` seconds ago that FTS does not list as running.

        Misses are counted under the `fence` of this work only: once in each round.
        """
        running = await self._endpoint.unfinished()
        cursor, looked_at = "", 0
        while page := await self._store.transferring(
            self._endpoint.name, older_than=older_than, after=cursor, limit=PAGE
        ):
            cursor = page[-1].job_id
            missing = [job for job in page if job.fts_jobid not in running]
            await self._settle(missing, fence())
            looked_at += len(missing)
        return looked_at

    async def _settle(self, jobs: Sequence[Job], fence: Fence | None = None) -> None:
        details = await self._endpoint.details([job.fts_jobid for job in jobs if job.fts_jobid])
        for job in jobs:
            outcome = details.get(job.fts_jobid or "")
            try:
                if outcome is not None:
                    await self._transfers.settle(job, outcome)
                elif fence is not None:
                    await self._missed(job, fence)
            except LostRace:
                log.info("settled elsewhere", job_id=job.job_id)

    async def _missed(self, job: Job, fence: Fence) -> None:
        if job.fts_misses + 1 >= self._misses:
            await self._transfers.lost(job)
        else:
            misses = job.fts_misses + 1
            await self._store.update(job, delay=None, fence=fence, fts_misses=misses)

    def _window(self, now: float) -> int:
        if self._last is None:
            return FIRST_LOOK_MINUTES
        return math.ceil((now - self._last) / 60) + SLACK_MINUTES

"""Watching transfers of many files: how far they are, and which are over, at few calls to FTS.

When a transfer will be over is foreseen from how it went so far, and FTS is asked then. One that
waits behind others can't be over before these are.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from deliv.delivery.endpoints import EndpointResolver
from deliv.errors import NoCredential, Refused, Unavailable
from deliv.gateways.fts import Endpoint
from deliv.model.job import Job
from deliv.model.transfer import OpenTransfer, Progress
from deliv.ops import metrics
from deliv.store import Store

log = structlog.get_logger()

WATCHED_BYTES = 50_000  # of FTS's answers a second, on average
LONGEST = 30.0  # seconds between two looks
MARGIN = 1.1  # of the time that is foreseen: rather one look too late than two


@dataclass
class Watched:
    """A transfer as it was seen last, `at` the monotonic clock's time, and when it is `due`.

    `since`: when it was seen first.
    """

    job_id: str
    transfer: OpenTransfer
    pair: tuple[str | None, str]
    user: str | None
    since: float
    at: float
    due: float
    pause: float  # until it was due
    rate: float = 0.0  # files that ended a second, between the last two looks

    @property
    def left(self) -> int:
        """Files that FTS has not ended."""
        return self.transfer.files - self.transfer.ended


class Watching:
    """Of one FTS endpoint; `shortest` in seconds between two looks."""

    def __init__(
        self,
        store: Store,
        endpoints: EndpointResolver,
        endpoint: Endpoint,
        shortest: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._endpoints = endpoints
        self._endpoint = endpoint
        self._shortest = shortest
        self._clock = clock
        self._watched: dict[str, Watched] = {}
        self._not_before = 0.0

    async def look(self) -> list[str]:
        """The FTS ids of the transfers that are over, as far as a look was due.

        What was seen of the others is stored.
        """
        jobs = await self._store.with_open_transfers(self._endpoint.name)
        self._take(jobs, await self._store.open_transfers(jobs))
        now = self._clock()
        if now < self._not_before or all(now < one.due for one in self._watched.values()):
            return []
        by_user: dict[str | None, list[str]] = defaultdict(list)
        for fts_jobid, one in self._watched.items():
            by_user[one.user].append(fts_jobid)
        found: dict[str, Progress] = {}
        cost = 0
        for user, ids in by_user.items():
            try:
                endpoint = await self._endpoints.acting_as(user, self._endpoint.name)
                seen, spent = await endpoint.progress(ids)
            except (Unavailable, Refused, NoCredential) as error:
                log.info("FTS does not tell how far it is", dn=user, reason=str(error))
                continue
            found |= seen
            cost += spent
        self._not_before = now + cost / WATCHED_BYTES
        await self._see(found, now)
        self._foresee(now)
        return [fts_jobid for fts_jobid, one in self._watched.items() if not one.left]

    def _take(self, jobs: list[Job], transfers: dict[str, tuple[OpenTransfer, ...]]) -> None:
        """Those that are open now: a new one is due after a moment."""
        now = self._clock()
        self._watched = {
            transfer.fts_jobid: self._watched.get(transfer.fts_jobid)
            or Watched(
                job_id=job.job_id,
                transfer=transfer,
                pair=(job.stager_hostname, job.destination_host),
                user=job.copying_user,
                since=now,
                at=now,
                due=now + self._shortest,
                pause=self._shortest,
            )
            for job in jobs
            for transfer in transfers[job.job_id]
        }

    async def _see(self, found: dict[str, Progress], now: float) -> None:
        by_job: dict[str, dict[tuple[int, int], Progress]] = defaultdict(dict)
        for fts_jobid, progress in found.items():
            one = self._watched[fts_jobid]
            if progress.active + progress.ended > one.transfer.files:
                metrics.FTS_UNUSABLE_ANSWERS.labels(endpoint=self._endpoint.name).inc()
                log.warning("FTS reports more files than it was given", fts_jobid=fts_jobid)
                continue
            by_job[one.job_id][one.transfer.attempt, one.transfer.slice] = progress
            ended = progress.ended - one.transfer.ended
            one.rate = max(0.0, ended / (now - one.at)) if now > one.at else 0.0
            one.transfer = replace(
                one.transfer,
                active=progress.active,
                ended=progress.ended,
                arrived=progress.arrived,
            )
            one.at = now
        await self._store.see_progress(by_job)

    def _foresee(self, now: float) -> None:
        pairs: dict[tuple[str | None, str], list[Watched]] = defaultdict(list)
        for one in self._watched.values():
            pairs[one.pair].append(one)
        for several in pairs.values():
            rate = sum(one.rate for one in several)
            ahead = sum(one.left for one in several if one.transfer.active)
            for one in several:
                pause = 2 * one.pause
                if one.rate:
                    pause = MARGIN * one.left / one.rate
                elif rate and not one.transfer.active:
                    pause = MARGIN * ahead / rate
                pause = min(pause, now - one.since, LONGEST)  # a beginning tells little of the rest
                one.pause = max(pause, self._shortest)
                one.due = now + one.pause

"""Watching transfers of many files: how far they are, and which are over, at few calls to FTS.

When a transfer will be over is foreseen from how fast files end between its two hosts, and FTS is
asked then. FTS serves the files of a pair of hosts in the order in which they came: a transfer is
over when those before it are, and it itself.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from deliv.delivery.endpoints import EndpointResolver
from deliv.errors import NoCredential, Refused, Unavailable
from deliv.gateways.fts import Endpoint, TransferOutcome
from deliv.model.job import Job
from deliv.model.transfer import OpenTransfer, Progress
from deliv.ops import metrics
from deliv.store import Store

log = structlog.get_logger()

WATCHED_BYTES = 50_000  # of FTS's answers a second, on average
LONGEST = 30.0  # seconds between two looks
MARGIN = 1.08  # of the time that is foreseen: rather one look too late than two
WHOLE_FILES = 500  # of so many FTS is asked at once what became of them, not only how far they are


@dataclass
class Watched:
    """A transfer as it was seen last, `at` the monotonic clock's time, and when it is `due`.

    `since`: when the first of its job's that were open without a break was seen. `over`: when it is
    foreseen to be over, infinite while that is not known.
    """

    job_id: str
    transfer: OpenTransfer
    pair: tuple[str | None, str]
    user: str | None
    since: float
    at: float
    due: float
    pause: float  # until it was due
    over: float = math.inf
    rate: float = 0.0  # files that ended a second, between the last two looks
    stuck: bool = False  # it had begun, and nothing of it has ended between these

    @property
    def left(self) -> int:
        """Files that FTS has not ended."""
        return self.transfer.files - self.transfer.ended


class Watching:
    """Of one FTS endpoint; `shortest` in seconds between two looks, of which one may be each."""

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
        self._watched: dict[str, Watched] = {}  # in the order in which FTS got them
        self._not_before = 0.0

    async def look(self) -> dict[str, TransferOutcome | None]:
        """The transfers that are over, by their FTS ids, as far as a look was due.

        None in place of an outcome that FTS was not asked for. What was seen of the others is
        stored.
        """
        jobs = await self._store.with_open_transfers(self._endpoint.name)
        self._take(jobs, await self._store.open_transfers(jobs))
        now = self._clock()
        soon = now + self._shortest / 2  # the next look would be later than that
        if now < self._not_before or all(soon < one.due for one in self._watched.values()):
            return {}
        by_user: dict[str | None, list[str]] = defaultdict(list)
        for fts_jobid, one in self._watched.items():
            by_user[one.user].append(fts_jobid)
        found: dict[str, Progress] = {}
        outcomes: dict[str, TransferOutcome] = {}
        cost = 0
        for user, ids in by_user.items():
            several = [self._watched[fts_jobid] for fts_jobid in ids]
            few = sum(one.transfer.files for one in several) <= WHOLE_FILES
            whole = few and any(one.over <= soon for one in several)
            try:
                endpoint = await self._endpoints.acting_as(user, self._endpoint.name)
                seen, ends, spent = await endpoint.progress(ids, whole=whole)
            except (Unavailable, Refused, NoCredential) as error:
                log.info("FTS does not tell how far it is", dn=user, reason=str(error))
                continue
            found |= seen
            outcomes |= ends
            cost += spent
        self._not_before = now + cost / WATCHED_BYTES
        await self._see(found, now)
        self._foresee(now)
        over = (fts_jobid for fts_jobid, one in self._watched.items() if not one.left)
        return {fts_jobid: outcomes.get(fts_jobid) for fts_jobid in over}

    def _take(self, jobs: list[Job], transfers: dict[str, tuple[OpenTransfer, ...]]) -> None:
        """Those that are open now. A new one is due after a moment, or with others of its job."""
        now = self._clock()
        before = self._watched
        opened = {one.fts_jobid for several in transfers.values() for one in several}
        self._watched = {key: one for key, one in before.items() if key in opened}
        for job in jobs:
            pair = job.stager_hostname, job.destination_host
            same = [one for one in before.values() if one.job_id == job.job_id]
            since = min((one.since for one in same), default=now)
            moving = (one.due for one in same if one.rate and one.transfer.fts_jobid in opened)
            due = max(moving, default=now + self._shortest)
            for transfer in transfers[job.job_id]:
                if transfer.fts_jobid not in before:
                    self._watched[transfer.fts_jobid] = Watched(
                        job_id=job.job_id,
                        transfer=transfer,
                        pair=pair,
                        user=job.copying_user,
                        since=since,
                        at=now,
                        due=due,
                        pause=self._shortest,
                    )

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
            one.stuck = not one.rate and bool(one.transfer.active or one.transfer.ended)
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
            left = 0
            for one in several:
                one.over, pause = math.inf, 2 * one.pause
                if rate and not one.stuck:
                    left += one.left
                    pause = MARGIN * left / rate
                    one.over = now + pause
                pause = min(pause, now - one.since, LONGEST)  # a beginning tells little of the rest
                one.pause = max(pause, self._shortest)
                one.due = now + one.pause

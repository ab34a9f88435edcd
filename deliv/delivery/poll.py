"""Asking FTS how its transfers fare: cheaply what just ended, now and then everything.

Of jobs with a single file FTS is asked for a list of those that ended; those with many are watched
(deliv/delivery/watch.py).

FTS shows a job to its own identity only: to deliv's, or to that of a user who has delegated. So it
is asked once for each identity that has copies there.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import structlog

from deliv.config import Config
from deliv.delivery.ending.settlement import Settlement
from deliv.delivery.endpoints import EndpointResolver
from deliv.delivery.waiting import no_longer_waiting
from deliv.delivery.watch import Watching
from deliv.errors import DelivError, LostRace, NoCredential, Refused, Unavailable
from deliv.gateways.fts import Endpoint, TransferOutcome, Verdict, forbidden
from deliv.model.job import Job
from deliv.model.phase import AT_FTS, phase
from deliv.model.transfer import OpenTransfer
from deliv.ops import metrics
from deliv.store import Fence, Store, Turn

log = structlog.get_logger()

SLACK_MINUTES = 2  # FTS counts whole minutes on its own clock
FIRST_LOOK_MINUTES = 60
PAGE = 500
AT_ONCE = 8  # users that FTS is asked about
SERVICE = None  # in place of a user's DN


class Polling:
    """One FTS endpoint's transfers.

    A transfer that FTS does not know `fts.misses` times in a row is lost.
    """

    def __init__(
        self,
        store: Store,
        settlement: Settlement,
        endpoints: EndpointResolver,
        endpoint: Endpoint,
        config: Config,
    ) -> None:
        self._store = store
        self._settlement = settlement
        self._endpoints = endpoints
        self._endpoint = endpoint
        self._not_found_limit = config.fts.misses
        self._limits = config.limits
        self._files_per_transfer = config.fts.files_per_transfer
        self._last: dict[str | None, float] = {}
        self._refused: set[str] = set()
        self.watching = Watching(store, endpoints, endpoint, float(config.fts.poll_every))

    async def poll_once(self) -> int:
        """Settle the transfers that ended since the last look; returns of how many jobs.

        What has ended makes room at FTS: it is the turn of others.
        """
        owners = await self._store.single_file_owners(self._endpoint.name)
        self._last = {who: self._last[who] for who in (SERVICE, *owners) if who in self._last}
        ended = 0
        if SERVICE in owners:
            ended += await self._poll(self._endpoint, SERVICE)
        gate = asyncio.Semaphore(AT_ONCE)
        users = [dn for dn in owners if dn is not None]
        ended += sum(await asyncio.gather(*(self._poll_user(dn, gate) for dn in users)))
        ended += await self._settle_watched(await self.watching.look())
        await self._store.give_turns(await self.turn())
        return ended

    async def turn(self) -> Turn:
        """What this FTS may have now."""
        return Turn(
            endpoint=self._endpoint.name,
            files_per_pair=self._limits.files_per_pair,
            bytes_per_pair=self._limits.bytes_per_pair,
            files_per_transfer=self._files_per_transfer,
            takes_new=await self._endpoints.takes_new(self._endpoint.name),
        )

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
        await self._settle(endpoint, own, lambda transfer: transfer.fts_jobid in ended)
        self._last[who] = started
        return len(own)

    async def _settle_watched(self, over: Mapping[str, TransferOutcome | None]) -> int:
        """The transfers of jobs with many files that are over, and what is known of them."""
        known = {fts_jobid: outcome for fts_jobid, outcome in over.items() if outcome is not None}
        by_identity: dict[str | None, list[Job]] = defaultdict(list)
        for job in await self._store.by_fts(self._endpoint.name, list(over)):
            by_identity[job.copying_user].append(job)
        for who, jobs in by_identity.items():
            try:
                endpoint = await self._endpoints.acting_as(who, self._endpoint.name)
                await self._settle(
                    endpoint, jobs, lambda transfer: transfer.fts_jobid in over, known=known
                )
            except (Refused, NoCredential) as error:
                self._log_refusal(who, error)
        return sum(map(len, by_identity.values()))

    async def _poll_user(self, dn: str, gate: asyncio.Semaphore) -> int:
        """One user's trouble keeps no other waiting."""
        async with gate:
            try:
                endpoint = await self._endpoints.as_user(dn, self._endpoint.name)
                ended = await self._poll(endpoint, dn)
            except (Unavailable, Refused, NoCredential) as error:
                self._log_refusal(dn, error)
                return 0
            if dn in self._refused:
                self._refused.remove(dn)
                log.info("FTS can be asked for a user again", dn=dn)
            return ended

    def _log_refusal(self, dn: str | None, error: DelivError) -> None:
        """Once for each user, until FTS can be asked again; the others only at the level debug."""
        known = dn is None or dn in self._refused
        (log.debug if known else log.warning)(
            "FTS can't be asked for a user", dn=dn, reason=str(error)
        )
        self._refused |= set() if dn is None else {dn}

    async def _reconcile(
        self,
        who: str | None,
        jobs: Sequence[Job],
        running: dict[str | None, Collection[str]],
        fence: Callable[[], Fence | None],
    ) -> int:
        """`running` is filled with what FTS lists for each identity, asked once in a round."""
        try:
            endpoint = await self._endpoints.acting_as(who, self._endpoint.name)
            if who not in running:
                running[who] = await endpoint.running()
            listed = running[who]
            transfers = await self._store.open_transfers(jobs)
            missing = [
                job
                for job in jobs
                if any(one.fts_jobid not in listed for one in transfers[job.job_id])
            ]
            known = [job for job in jobs if job not in missing]
            await self._each(known, partial(self._found, fence=fence()))
            await self._settle(
                endpoint, missing, lambda transfer: transfer.fts_jobid not in listed, fence()
            )
        except NoCredential as error:
            await self._each(jobs, partial(self._settlement.out_of_sight, error=error))
            return len(jobs)
        except (Unavailable, Refused) as error:
            if who is None:
                raise
            if isinstance(error, Refused) and error.code == HTTPStatus.FORBIDDEN:
                hidden = forbidden(str(error))
                transfers = await self._store.open_transfers(jobs)

                async def hide(job: Job) -> None:
                    for transfer in transfers[job.job_id][:1]:
                        await self._settlement.settle(job, transfer, hidden)

                await self._each(jobs, hide)
            self._log_refusal(who, error)
            return 0
        return len(missing)

    async def _settle(
        self,
        endpoint: Endpoint,
        jobs: Sequence[Job],
        concerned: Callable[[OpenTransfer], bool],
        fence: Fence | None = None,
        known: Mapping[str, TransferOutcome] = MappingProxyType({}),
    ) -> None:
        """Look at those of the jobs' transfers that are `concerned`, and at no others.

        FTS is not asked for what is `known` of them.
        """
        transfers = {
            job_id: [one for one in several if concerned(one)]
            for job_id, several in (await self._store.open_transfers(jobs)).items()
        }
        ids = (one.fts_jobid for several in transfers.values() for one in several)
        details = {**known, **await endpoint.details(one for one in ids if one not in known)}

        async def conclude(job: Job) -> None:
            absent: list[OpenTransfer] = []
            attempt, found = job.attempt, False
            for transfer in transfers[job.job_id]:
                outcome = details.get(transfer.fts_jobid)
                if outcome is None:
                    absent.append(transfer)
                    continue
                job = await self._settlement.settle(job, transfer, outcome)
                found = found or outcome.verdict is Verdict.RUNNING
                if job.attempt != attempt or phase(job) not in AT_FTS:
                    return
            if absent:
                await self._not_found(job, absent, fence)
            elif found:
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
        if fence is not None and (job.fts_misses or job.unseen_since or job.waiting_for):
            seen: dict[str, Any] = {"fts_misses": 0, "unseen_since": None, **no_longer_waiting(job)}
            await self._store.update(job, fence=fence, **seen)

    async def _not_found(
        self, job: Job, absent: Sequence[OpenTransfer], fence: Fence | None
    ) -> None:
        if fence is None:
            return
        not_found_count = job.fts_misses + 1
        if not_found_count < self._not_found_limit:
            counted: dict[str, Any] = {"fts_misses": not_found_count, "unseen_since": None}
            await self._store.update(job, fence=fence, **counted)
            return
        for transfer in absent:
            job = await self._settlement.lost(job, transfer)

"""Whether an FTS works on what the database believes, and on nothing else for deliv.

FTS shows a transfer to the identity it is copied under: it is asked for each by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace

from deliv.commands.check.findings import Finding, Fix
from deliv.commands.check.pages import PAGE, chunks
from deliv.delivery.endpoints import sid
from deliv.gateways.fts import Endpoint, Origin
from deliv.model.job import Job
from deliv.model.phase import AT_FTS, AT_STAGER, Phase, phase
from deliv.model.states import FINAL, Status
from deliv.store import Store
from deliv.store.inspection import Inspection

UNASSIGNED = frozenset({Phase.QUEUED, Phase.STAGED}) | AT_STAGER  # no FTS was chosen yet
ASSIGNED = frozenset({Phase.HANDING_OVER, Phase.COPYING})  # its present attempt is its own
SETTLING = 60.0  # seconds that FTS and deliv may need to know of each other's latest step


class FtsCheck:
    """`user`: the DN that the endpoint is asked as; None: deliv's own."""

    def __init__(
        self, inspection: Inspection, store: Store, endpoint: Endpoint, user: str | None = None
    ) -> None:
        self._inspection = inspection
        self._store = store
        self._endpoint = endpoint
        self._user = user

    async def findings(self) -> AsyncIterator[Finding]:
        running = await self._endpoint.unfinished()
        async for finding in self._orphans(running):
            yield finding
        async for finding in self._lost(running):
            yield finding

    async def _orphans(self, running: Collection[str]) -> AsyncIterator[Finding]:
        """Transfers that FTS works on for a job that has ended or gone on without it."""
        name = self._endpoint.name
        for chunk in chunks(sorted(running), PAGE):
            owners = await self._inspection.by_fts(name, chunk)
            transfers = await self._store.open_transfers(owners)
            owned = {one.fts_jobid for several in transfers.values() for one in several}
            suspects = [fts_id for fts_id in chunk if fts_id not in owned]
            origins = await self._endpoint.origins(suspects)
            ours = {origin.deliv_job_id for origin in origins.values()} - {None}
            known = await self._inspection.known([job_id for job_id in ours if job_id])
            for origin in origins.values():
                job = known.get(origin.deliv_job_id or "")
                if job is not None and await self._will_ask_for(origin, job):
                    if job.fts_endpoint != name or job.attempt != origin.attempt:
                        yield early(name, origin, job)
                elif finding := orphan(name, origin, job):
                    yield replace(finding, user=self._user)

    async def _will_ask_for(self, origin: Origin, job: Job) -> bool:
        """Whether it is what an unfinished job's present attempt, or a later one, is to post.

        That is so after a restore: the database is of the time before it was posted.
        """
        if phase(job) not in UNASSIGNED | ASSIGNED or job.copying_user != self._user:
            return False
        following = job.attempt, job.slice + (phase(job) in ASSIGNED)
        if (origin.attempt, origin.slice) < following:
            return False
        return origin.job_id == await self._endpoint.job_id(
            sid(replace(job, attempt=origin.attempt, slice=origin.slice))
        )

    async def _lost(self, running: Collection[str]) -> AsyncIterator[Finding]:
        """Jobs whose transfer FTS does not know, or knows by another id."""
        name, after = self._endpoint.name, ""
        while jobs := await self._store.transferring(name, SETTLING, after=after, limit=PAGE):
            own = [job for job in jobs if job.copying_user == self._user]
            transfers = await self._store.open_transfers(own)
            ids = {one.fts_jobid for several in transfers.values() for one in several}
            known = {*running, *await self._endpoint.details(sorted(ids.difference(running)))}
            for job in own:
                absent = [
                    one.fts_jobid for one in transfers[job.job_id] if one.fts_jobid not in known
                ]
                for fts_jobid in absent:
                    yield lost(name, job, fts_jobid)
                if not absent and job.fts_jobid != (
                    expected := await self._endpoint.job_id(sid(job))
                ):
                    text = f"has the transfer {job.fts_jobid}, where {expected} is its attempt's"
                    yield Finding(rule="transfer", text=text, job_id=job.job_id)
            after = jobs[-1].job_id


def orphan(endpoint: str, origin: Origin, job: Job | None) -> Finding | None:
    """What FTS works on although no TRANSFERRING job has it; None where that is in order."""
    if origin.deliv_job_id is None:
        return None  # somebody else's, under the same identity
    works = f"FTS {endpoint} works on the transfer {origin.job_id} for it"
    if job is None:
        text = f"is unknown here, but {works}: is it another deliv's?"
        return Finding(rule="fts", text=text, job_id=origin.deliv_job_id)
    its_own = job.fts_jobid == origin.job_id
    if its_own and phase(job) in AT_FTS | {Phase.CLEANING_UP}:
        return None
    fix = None if its_own and job.status is Status.SUCCESS else Fix.WITHDRAW
    ended = "has ended" if job.status in FINAL else "has gone on"
    return Finding(
        rule="fts",
        text=f"{ended}, but {works}",
        job_id=job.job_id,
        endpoint=endpoint,
        subject=origin.job_id,
        fix=fix,
    )


def early(endpoint: str, origin: Origin, job: Job) -> Finding:
    """What FTS works on before the job has asked for it."""
    return Finding(
        rule="fts",
        text=(
            f"is {job.status} (attempt {job.attempt}), but FTS {endpoint} works on the transfer "
            f"{origin.job_id} of its attempt {origin.attempt} already"
        ),
        job_id=job.job_id,
        version=job.version,
        endpoint=endpoint,
        subject=origin.job_id,
        attempt=origin.attempt,
        user=job.copying_user,
        fix=Fix.TAKE_OVER,
    )


def lost(endpoint: str, job: Job, fts_jobid: str) -> Finding:
    text = (
        f"is TRANSFERRING, but FTS {endpoint} does not know its transfer {fts_jobid}: "
        f"after some looks deliv takes it for lost ({job.fts_misses} so far)"
    )
    return Finding(rule="fts", text=text, job_id=job.job_id)

"""Whether the stager holds what the database believes it holds, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import NamedTuple

from deliv.commands.check.findings import Finding, Fix, Unchecked
from deliv.commands.check.pages import PAGE, chunks, paged
from deliv.gateways.stager import Stager
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.staging import SharedStaging
from deliv.store.inspection import Inspection

SAMPLE = 200  # of the jobs released last, to ask a stager about that has no list


class Awaited(NamedTuple):
    """A staging, or a job that the release before stages alone, by the id that the stager knows."""

    job_id: str
    version: int
    accepted: datetime | None


class StagerCheck:
    """Unchecked when the stager offers neither a list nor an answer about single jobs."""

    def __init__(self, inspection: Inspection, stager: Stager) -> None:
        self._inspection = inspection
        self._stager = stager

    async def findings(self) -> AsyncIterator[Finding]:
        before = await self._inspection.now()
        held = await self._stager.listing()
        if held is None:
            held = await self._held_of_those_in_question()
        for chunk in chunks(sorted(held), PAGE):
            stagings = await self._inspection.known_stagings(chunk)
            known = await self._inspection.known(chunk)
            for job_id in chunk:
                if staging := stagings.get(job_id):
                    finding = left(staging, before)
                else:
                    finding = orphan(job_id, known.get(job_id), before)
                if finding:
                    yield finding
        async for awaited in self._awaited():
            if finding := unreported(awaited, held, before, Fix.ASK_STAGING):
                yield finding
        async for job in paged(self._inspection.awaited):
            alone = Awaited(job.job_id, job.version, job.stager_accepted)
            if finding := unreported(alone, held, before, Fix.ASK):
                yield finding

    async def _awaited(self) -> AsyncIterator[Awaited]:
        after = ""
        while stagings := await self._inspection.awaited_stagings(after, PAGE):
            for one in stagings:
                yield Awaited(one.staging_id, one.version, one.accepted)
            after = stagings[-1].staging_id

    async def _held_of_those_in_question(self) -> dict[str, bool | None]:
        """Those of the jobs in question that it holds something for, as in a list."""
        ids = [awaited.job_id async for awaited in self._awaited()]
        ids += [job.job_id async for job in paged(self._inspection.awaited)]
        ids += [job.staging_id or job.job_id for job in await self._inspection.released(SAMPLE)]
        answers = {job_id: await self._stager.holds(job_id) for job_id in dict.fromkeys(ids)}
        held: dict[str, bool | None] = {job_id: None for job_id, holds in answers.items() if holds}
        if ids and not held:  # 404 may mean the job or the call
            raise Unchecked("the stager's copies: it tells nothing about the jobs it has")
        return held


def left(staging: SharedStaging, before: datetime) -> Finding | None:
    """What the stager had at `before`, although it had given it back."""
    if staging.released is None or staging.released >= before:
        return None
    text = "has given its staged copy back, but the stager holds one"
    return Finding(rule="stager", text=text, job_id=staging.staging_id, fix=Fix.RELEASE)


def orphan(job_id: str, job: Job | None, before: datetime) -> Finding | None:
    """What the stager had at `before`, although no job needs it any more, or has asked for it yet.

    The latter is so after a restore: the database is of the time before.
    """
    if job is None:
        text = "is unknown here, but the stager holds a copy for it: is it another deliv's?"
        return Finding(rule="stager", text=text, job_id=job_id)
    if phase(job) is Phase.QUEUED:
        text = "waits for its turn, but the stager works for it already"
        return Finding(rule="stager", text=text, job_id=job_id, version=job.version, fix=Fix.ADMIT)
    if phase(job) is not Phase.CLOSED:
        return None
    if job.time_released is None:  # it ended before it was asked for, by what is known here
        text = "has never asked for a staged copy, but the stager holds one"
    elif job.time_released < before:
        text = "has given its staged copy back, but the stager holds one"
    else:
        return None
    return Finding(rule="stager", text=text, job_id=job_id, fix=Fix.RELEASE)


def unreported(
    awaited: Awaited, held: Mapping[str, bool | None], before: datetime, fix: Fix
) -> Finding | None:
    """That for which no report will come, or may not come, as the stager said after `before`.

    The database may have forgotten the report, in a restore or a failover.
    """
    if awaited.accepted is None or awaited.accepted >= before:
        return None
    known, reported = awaited.job_id in held, held.get(awaited.job_id)
    if reported is False:
        return None
    if not known:
        why = "knows nothing of it"
    elif reported:
        why = "has reported already"
    else:
        why = "does not say whether it has reported"
    return Finding(
        rule="stager",
        text=f"waits for the stager, which {why}",
        job_id=awaited.job_id,
        version=awaited.version,
        fix=fix,
        doubtful=known and reported is None,
    )

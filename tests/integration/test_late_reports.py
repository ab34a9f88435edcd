"""The stager works off an outdated request: no job waits for ever, and no copy stays for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.private_mariadb import Server
from support.samples import admitted

from deliv.db.database import Database
from deliv.delivery import authcode
from deliv.delivery.stage import Staging
from deliv.delivery.transfer import FtsTransfers
from deliv.errors import Forbidden, LostRace
from deliv.gateways.stager import Stager
from deliv.model.job import Job, StageReport
from deliv.model.phase import Phase, phase
from deliv.model.staging import SharedStaging, StagingState
from deliv.model.states import Event
from deliv.store import NOW, Store
from integration.fts_bench import DELIV, bench
from integration.scripted_fts import Grid, reply
from integration.test_stager_gateway import now, stagers, staging

OUTDATED = "0" * 32


async def waiting(store: Store) -> Job:
    code = authcode.digest("f" * 32)
    return await store.update(
        await admitted(store), delay=7200, stager_callback=code, stager_accepted=NOW
    )


async def ended(store: Store) -> Job:
    """Its copy was given back."""
    job = await store.apply(await admitted(store), Event.CANCEL)
    return await store.update(job, delay=None, time_released=NOW)


async def staging_of(store: Store, job: Job) -> SharedStaging:
    known = await store.staging(job.job_id)
    assert known is not None
    return known


def seconds_until_due(staging: SharedStaging) -> float:
    assert staging.due_at is not None
    return (staging.due_at - datetime.now(UTC)).total_seconds()


async def late(staging: Staging, job: Job) -> None:
    report = StageReport(
        job_id=job.job_id,
        product_id=job.product_id,
        authcode=OUTDATED,
        success=True,
        staged_to="h",
        path="/copy/a",
        msg=None,
    )
    with pytest.raises(Forbidden):
        await staging.report(report)


async def test_a_job_that_waits_is_asked_for_again(grid: Grid, store: Store) -> None:
    """Not at once: the report that counts may follow, and its code counts meanwhile."""
    async with stagers(grid) as (stager, _):
        job = await waiting(store)
        await late(staging(store, stager), job)
        again, asked = await now(store, job), await staging_of(store, job)
    assert (phase(again), asked.code) == (Phase.ASKING_STAGER, job.stager_callback)
    assert 0 < seconds_until_due(asked) <= 60


async def test_it_is_asked_for_less_and_less_often(
    grid: Grid, store: Store, migrated: Server
) -> None:
    """A stager that always reports with wrong codes must not be asked for ever."""
    async with stagers(grid) as (stager, _):
        job = await waiting(store)
        await staging(store, stager).proceed(job)
        migrated.rewrite("UPDATE stagings SET begun = begun - INTERVAL 10 HOUR")
        await late(staging(store, stager), await now(store, job))
        asked = await staging_of(store, job)
    assert 3500 < seconds_until_due(asked) <= 3600


async def test_what_is_staged_for_a_job_that_has_ended_is_given_back(
    grid: Grid, store: Store
) -> None:
    async with stagers(grid) as (stager, _):
        job = await ended(store)
        await late(staging(store, stager), job)
        assert phase(await now(store, job)) is Phase.CLEANING_UP
        assert job.job_id in await store.due(10)


async def test_an_archived_job_is_left_alone(grid: Grid, store: Store, database: Database) -> None:
    async with stagers(grid) as (stager, _):
        job = await ended(store)
        await late(staging(Archived(database), stager), job)
        assert await now(store, job) == job


class Archived(Store):
    """Of archived jobs nothing can be changed."""

    async def update(self, job: Job, **_changes: object) -> Job:  # type: ignore[override]
        raise LostRace(f"the job {job.job_id} is archived")


class Raced(Store):
    """Somebody else changes the job after each of the first reads that it is changed by."""

    def __init__(self, database: Database, times: int) -> None:
        super().__init__(database)
        self.times = times

    async def job(self, job_id: str) -> Job | None:
        job = await super().job(job_id)
        if job is not None and self.times:
            self.times -= 1
            await super().update(job, delay=3600)
        return job


async def test_a_late_call_is_made_up_for_however_often_the_staging_moves_on(
    grid: Grid, store: Store, database: Database
) -> None:
    """Its copy must not stay at the stager because of another lost race."""
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", reply({}))
        job = await admitted(store)
        raced = RacedStaging(database, times=3)
        calling = Cancelled(stager, store, job)
        with pytest.raises(LostRace):
            await staging(raced, calling).proceed(job)
        assert raced.times == 0
        assert (await staging_of(store, job)).state is StagingState.RELEASING
        assert job.job_id in await store.due_stagings(10)
        assert len(server.calls("POST", "/stage")) == 1


class RacedStaging(Store):
    """Somebody else changes the staging after each of the first reads that it is changed by."""

    def __init__(self, database: Database, times: int) -> None:
        super().__init__(database)
        self.times = times

    async def staging(self, staging_id: str) -> SharedStaging | None:
        staging = await super().staging(staging_id)
        if staging is not None and self.times:
            self.times -= 1
            await super().update_staging(staging, delay=3600)
        return staging


async def test_a_late_submission_is_withdrawn_however_often_the_job_moves_on(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path) as here:
        job = await here.posted(DELIV)
        late = await here.store.update(job, fts_posted=None, stager_hostname="h")
        here.server.on("POST", "/jobs", reply({"job_id": job.fts_jobid}))
        ended = await here.store.apply(late, Event.CANCEL)
        await here.store.update(ended, delay=None, time_released=NOW)
        raced = Raced(database, times=3)
        parts = here.parts
        transfers = FtsTransfers(
            raced,
            parts.fts,
            parts.endpoints,
            here.failures,
            parts.withdrawal,
            parts.conclusion,
            parts.file_results,
            parts.patience,
            parts.settings,
        )
        with pytest.raises(LostRace):
            await transfers.post(late)
        assert raced.times == 0
        assert phase(await here.now(job)) is Phase.CLEANING_UP


class Cancelled(Stager):
    """While it is asked, the job is cancelled and cleaned up by somebody else."""

    def __init__(self, stager: Stager, store: Store, job: Job) -> None:
        self._stager, self._store, self._job = stager, store, job

    async def stage(self, staging: SharedStaging, authcode: str) -> None:
        await self._stager.stage(staging, authcode)
        job = await self._store.apply(await now(self._store, self._job), Event.CANCEL)
        left, held = await self._store.leave_staging(job)
        await self._store.staging_given_back(held, left)

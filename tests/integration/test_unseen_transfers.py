"""FTS goes on with a transfer that deliv can't see: there is no other one, and an end to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.private_mariadb import Server
from support.samples import staged

from deliv.db.database import Database
from deliv.delivery.transfer import sid
from deliv.model.phase import Phase, phase
from deliv.model.states import Status
from integration.fts_bench import DELIV, MISSES, bench
from integration.scripted_fts import Grid, html, reply

MANY = {"credential": 9, "other": 9}  # attempts that would be made


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return Grid(tmp_path_factory.mktemp("grid"))


async def test_a_job_that_fts_does_not_show_any_more_ends(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.posted(DELIV)
        here.forbid(job)
        for _ in range(MISSES + 1):  # however often it was looked: others may yet give it back
            await here.reconcile()
        job = await here.now(job)
        assert (phase(job), job.attempt, job.fts_misses) == (Phase.COPYING, 1, 0)
        assert job.unseen_since is not None
        assert "waiting: FTS (fts1) does not let deliv see the transfer" in str(job.detailed_status)
        await here.long_unseen(job)
        await here.reconcile()
        job = await here.now(job)
        assert (job.status, job.error_class, job.attempt) == (Status.ERROR, "credential", 1)
        assert "Not enough permissions" in str(job.detailed_status)
        assert "may be left" in str(job.detailed_status)
        await here.cleanup.clean_up(job)
        job = await here.now(job)
        assert phase(job) is Phase.CLOSED
        assert job.time_released is not None


async def test_a_job_that_fts_shows_again_goes_on(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.posted(DELIV)
        here.forbid(job)
        await here.reconcile()
        assert (await here.now(job)).unseen_since is not None
        here.jobs.states[DELIV, job.job_id] = "ACTIVE"
        await here.reconcile()
        job = await here.now(job)
        assert (job.unseen_since, job.detailed_status, job.attempt) == (None, None, 1)


async def test_a_cancel_that_fts_forbids_ends(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.posted(DELIV)
        here.forbid(job)
        job = await here.cancellation.cancel(job.job_id)
        assert phase(job) is Phase.STOPPING
        assert job.due_at is not None
        assert "403" in str(job.detailed_status)
        job = await here.cancellation.proceed(await here.long_unseen(job))
        assert job.status is Status.CANCELLED
        assert "may be left" in str(job.detailed_status)
        await here.cleanup.clean_up(job)
        assert (await here.now(job)).time_released is not None


async def test_a_forbidden_withdrawal_gives_the_staged_copy_back_after_a_while(
    grid: Grid, migrated: Server, database: Database, tmp_path: Path
) -> None:
    """FTS may have taken it without deliv hearing so: it is asked to stop it for some time."""
    async with bench(grid, database, tmp_path) as here:
        job = await here.posted(DELIV)
        job = await here.store.update(job, fts_posted=None)
        here.forbid(job)
        job = await here.cancellation.forbid(job, "no rule allows it")
        await here.cleanup.clean_up(job)
        job = await here.now(job)
        assert (job.time_released, phase(job)) == (None, Phase.CLEANING_UP)
        migrated.rewrite("UPDATE jobs SET time_transferring = time_transferring - INTERVAL 1 DAY")
        await here.cleanup.clean_up(await here.now(job))
        assert (await here.now(job)).time_released is not None


async def test_a_repeated_post_of_a_job_that_fts_does_not_show(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    """It is there under its id: another attempt would be a second copy beside it."""
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await staged(here.store)
        job = await here.store.update(job, stager_hostname="archive.example.org")
        here.server.on("POST", "/jobs", html(500))
        await here.transfers.start(job)
        job = await here.now(job)
        assert job.fts_jobid == await here.endpoint.job_id(sid(job))
        duplicated = {"status": "409 Conflict", "message": "The sid provided is duplicated"}
        refusal = {"job_id": job.fts_jobid, "http_status": "403 Forbidden", "http_message": "No"}
        here.server.on("POST", "/jobs", reply(duplicated, 409))
        here.server.on("GET", f"/jobs/{job.fts_jobid}", reply(refusal, 403))
        await here.transfers.post(job)
        job = await here.now(job)
        assert (phase(job), job.attempt) == (Phase.COPYING, 1)

"""FTS refuses a post: what is asked for, and what the job waits for or ends with."""

from __future__ import annotations

from pathlib import Path

import pytest
from deliv_testbed import pki
from support.samples import staged

from deliv.db.database import Database
from deliv.delivery.endpoints import sid
from deliv.model.job import Job, TransferIdentity
from deliv.model.phase import Phase, phase
from deliv.model.states import Status
from integration import recorded
from integration.fts_bench import Bench, bench, held
from integration.scripted_delegation import as_recorded
from integration.scripted_fts import Grid, Reply, html, reply
from integration.test_unseen_transfers import MANY

DELEGATION = recorded.sections("deleg.txt")
REFUSALS = {
    403: {"status": "403 Forbidden", "message": "You are not authorized"},
    419: {"status": "419 Authentication Timeout", "message": "The proxy has expired"},
}


async def posted_without_answer(here: Bench) -> Job:
    """Whether FTS has taken it is open."""
    job = await staged(here.store)
    job = await here.store.update(job, stager_hostname="archive.example.org")
    here.server.on("POST", "/jobs", html(500))
    await here.transfers.start(job)
    job = await here.now(job)
    assert phase(job) is Phase.HANDING_OVER
    return job


def about(here: Bench, job: Job, answer: Reply) -> None:
    """What FTS says of the job's transfer, which its archive does not have."""
    here.server.on("GET", f"/jobs/{job.fts_jobid}", answer)
    here.server.on("GET", f"/archive/{job.fts_jobid}", reply({"status": "404"}, 404))


@pytest.mark.parametrize(
    ("code", "state"), [(403, "ACTIVE"), (419, "ACTIVE"), (403, "FAILED"), (403, "A_NEW_ONE")]
)
async def test_a_refusal_after_an_open_post_makes_no_second_copy(
    grid: Grid, database: Database, tmp_path: Path, code: int, state: str
) -> None:
    """FTS had taken it: the transfer is asked for, and what it is decides."""
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await posted_without_answer(here)
        here.server.on("POST", "/jobs", reply(REFUSALS[code], code))
        about(here, job, reply({"job_id": job.fts_jobid, "job_state": state}))
        await here.transfers.post(job)
        now = await here.now(job)
        assert (phase(now), now.attempt, now.fts_jobid) == (Phase.COPYING, 1, job.fts_jobid)
        assert now.due_at is None


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_refusal_of_what_fts_never_took_is_one(
    grid: Grid, database: Database, tmp_path: Path, code: int
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await posted_without_answer(here)
        here.server.on("POST", "/jobs", reply(REFUSALS[code], code))
        about(here, job, reply({"job_id": job.fts_jobid, "http_status": "404 Not Found"}, 404))
        await here.transfers.post(job)
        job = await here.now(job)
        assert (phase(job), job.attempt, job.fts_jobid) == (Phase.STAGED, 2, None)
        assert REFUSALS[code]["message"] in str(job.detailed_status)


async def test_whom_fts_tells_nothing_after_an_open_post_waits_and_ends(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await posted_without_answer(here)
        here.server.on("POST", "/jobs", reply(REFUSALS[403], 403))
        about(here, job, reply(REFUSALS[403], 403))
        await here.transfers.post(job)
        job = await here.now(job)
        assert (phase(job), job.attempt) == (Phase.HANDING_OVER, 1)
        assert "waiting: " in str(job.detailed_status)
        await here.transfers.post(await here.long_unseen(job))
        job = await here.now(job)
        assert (job.status, job.error_class, job.attempt) == (Status.ERROR, "credential", 1)
        assert "You are not authorized" in str(job.detailed_status)
        assert "may be left" in str(job.detailed_status)


async def test_an_fts_that_does_not_answer_about_the_earlier_post_is_asked_again(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await posted_without_answer(here)
        here.server.on("POST", "/jobs", reply(REFUSALS[403], 403))
        about(here, job, html(500))
        await here.transfers.post(job)
        job = await here.now(job)
        assert (phase(job), job.attempt) == (Phase.HANDING_OVER, 1)
        assert job.due_at is not None


async def test_the_first_post_that_is_refused_is_asked_for_nothing(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await staged(here.store)
        job = await here.store.update(job, stager_hostname="archive.example.org")
        here.server.on("POST", "/jobs", reply(REFUSALS[403], 403))
        await here.transfers.start(job)
        job = await here.now(job)
        assert (phase(job), job.attempt) == (Phase.STAGED, 2)
        transfers = [one.path for one in here.server.asked if one.path.startswith("/jobs/")]
        assert transfers == []


async def test_a_refused_post_of_what_fts_had_before_a_restore_is_asked_for(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    """It is the first that the database knows of, and FTS works on the transfer."""
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await staged(here.store)
        job = await here.store.update(job, stager_hostname="archive.example.org")
        await here.transfers.take_over(job, "fts1", 1)
        fts_id = await here.endpoint.job_id(sid(job))
        here.server.on("POST", "/jobs", reply(REFUSALS[403], 403))
        here.server.on("GET", f"/jobs/{fts_id}", reply({"job_id": fts_id, "job_state": "ACTIVE"}))
        await here.transfers.start(await here.now(job))
        job = await here.now(job)
        assert (phase(job), job.attempt, job.fts_jobid) == (Phase.COPYING, 1, fts_id)


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        (59, (Status.TRANSFERRING, "delegation", None)),
        (61, (Status.ERROR, None, "credential")),  # it is not for its end that FTS refuses it
    ],
)
async def test_another_is_waited_for_in_place_of_a_credential_that_ends_too_soon_for_fts(
    grid: Grid,
    database: Database,
    tmp_path: Path,
    minutes: int,
    expected: tuple[Status, str | None, str | None],
) -> None:
    alice = grid.authority.issue(pki.user_name("alice"))
    async with bench(grid, database, tmp_path) as here:
        here.delegated.held[alice.dn] = held(alice)
        here.delegated.minutes = minutes
        job = await staged(here.store, submitter=alice.dn, copied_as=TransferIdentity.USER)
        job = await here.store.update(job, stager_hostname="archive.example.org")
        too_short = as_recorded(DELEGATION["delegate Bob for 30 min, POST"][2])
        here.server.on("POST", "/jobs", too_short)
        await here.transfers.start(job)
        job = await here.now(job)
        assert (job.status, job.waiting_for, job.error_class) == expected

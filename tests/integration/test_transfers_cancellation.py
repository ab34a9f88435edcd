"""Jobs that are cancelled while FTS has them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from support.private_mariadb import Server

from deliv.errors import Conflict
from deliv.http.handlers.job_view import public
from deliv.model.phase import Phase, phase
from deliv.model.states import Status
from integration.fts_bench import DELIV
from integration.scripted_fts import html, reply
from integration.transfer_steps import (
    FILE,
    Opened,
    opened_fixture,  # noqa: F401 - a fixture is used by its name
)

CANCELLED_AT_ONCE = {"file_state": "CANCELED", "internal_file_params": "timeout:0"}


async def test_a_cancelled_copy_that_fts_had_begun_may_leave_a_file(opened: Opened) -> None:
    """FTS calls it cancelled at once, its process goes on for seconds."""
    async with opened as here:
        job = await here.posted(DELIV)
        file = {**CANCELLED_AT_ONCE, "start_time": "2026-11-29T00:00:00"}
        answer = {"job_id": job.fts_jobid, "job_state": "CANCELED", "files": [file]}
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", reply(answer))
        here.server.on("GET", f"/jobs/{job.fts_jobid}", reply(answer))
        job = await here.cancellation.cancel(job.job_id)
        assert job.status is Status.CANCELLED
        assert "may be left at gsiftp://user.example.org/data/a%20file.fits" in str(
            job.detailed_status
        )


async def test_a_cancelled_copy_that_fts_had_not_begun_leaves_nothing(opened: Opened) -> None:
    async with opened as here:
        job = await here.posted(DELIV)
        answer = {"job_id": job.fts_jobid, "job_state": "CANCELED", "files": [CANCELLED_AT_ONCE]}
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", reply(answer))
        here.server.on("GET", f"/jobs/{job.fts_jobid}", reply(answer))
        job = await here.cancellation.cancel(job.job_id)
        assert (job.status, job.detailed_status) == (Status.CANCELLED, "cancelled on request")


async def test_a_copy_that_fts_does_not_know_yet_may_still_be_made(opened: Opened) -> None:
    async with opened as here:
        job = await here.posted(DELIV)
        job = await here.store.update(job, fts_posted=None)
        here.jobs.states.clear()
        unknown = {"status": "404 Not Found", "message": "No job"}
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", reply(unknown, 404))
        job = await here.cancellation.cancel(job.job_id)
        assert job.status is Status.CANCELLED
        assert "may be left" in str(job.detailed_status)


@pytest.mark.parametrize(
    ("archived", "status"),
    [("FINISHED", Status.SUCCESS), ("CANCELED", Status.CANCELLED), (None, Status.CANCELLED)],
)
async def test_cancelling_what_fts_has_in_its_archive_alone(
    opened: Opened, archived: str | None, status: Status
) -> None:
    """deliv was away for a week, say: what was delivered meanwhile is not withdrawn any more."""
    async with opened as here:
        job = await here.posted(DELIV)
        here.jobs.states.clear()
        unknown = {"job_id": job.fts_jobid, "http_status": "404 Not Found", "http_message": "No"}
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", reply(unknown, 404))
        if archived:
            known = {"job_id": job.fts_jobid, "job_state": archived}
            files = [{"file_state": archived, "filesize": 5, "dest_surl": FILE}]
            here.server.on("GET", f"/archive/{job.fts_jobid}", reply(known))
            here.server.on("GET", f"/archive/{job.fts_jobid}/files", reply(files))
        if status is Status.SUCCESS:
            with pytest.raises(Conflict, match="ended already: SUCCESS"):
                await here.cancellation.cancel(job.job_id)
        else:
            await here.cancellation.cancel(job.job_id)
        assert (await here.now(job)).status is status


async def test_a_cancellation_that_waits_for_fts_is_shown(opened: Opened) -> None:
    async with opened as here:
        job = await here.posted(DELIV)
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", html(500))
        job = await here.cancellation.cancel(job.job_id)
        seen = public(job)
        assert seen["status"] == Status.TRANSFERRING
        since = seen["cancel_requested"]
        assert seen["detailed_status"].startswith(
            "waiting: FTS has not confirmed yet that the copy is stopped: FTS fts1 answered 500"
        )
        again = public(await here.cancellation.cancel(job.job_id))
        assert again["cancel_requested"] == since  # a repeated call changes nothing of it
        running = {"job_id": job.fts_jobid, "job_state": "ACTIVE", "http_status": "200 Ok"}
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", reply(running))
        job = await here.cancellation.proceed(await here.now(job))
        assert "not confirmed yet" in (job.detailed_status or "")  # FTS goes on copying
        here.jobs.states[DELIV, job.job_id] = "CANCELED"
        job = await here.cancellation.proceed(job)
        assert (job.status, job.detailed_status) == (Status.CANCELLED, "cancelled on request")


async def test_a_cancellation_that_a_sweep_confirms_first(opened: Opened) -> None:
    """FTS is slow to answer its caller: meanwhile the sweep asks FTS, and ends the job."""
    async with opened as here:
        job = await here.posted(DELIV)
        answer = {"job_id": job.fts_jobid, "job_state": "CANCELED", "http_status": "200 Ok"}
        path, answered = f"/jobs/{job.fts_jobid}", asyncio.Event()
        here.server.on("DELETE", path, reply(answer, after=answered), reply(answer))
        caller = asyncio.create_task(here.cancellation.cancel(job.job_id))
        while not here.server.calls("DELETE", path):
            await asyncio.sleep(0.01)
        here.jobs.states[DELIV, job.job_id] = "CANCELED"
        swept = await here.cancellation.proceed(await here.now(job))
        assert swept.status is Status.CANCELLED
        answered.set()
        assert (await caller).status is Status.CANCELLED
        with pytest.raises(Conflict, match="ended already: CANCELLED"):
            await here.cancellation.cancel(job.job_id)


async def test_a_cancellation_that_goes_on_failing_is_tried_less_often(
    opened: Opened, migrated: Server
) -> None:
    async with opened as here:
        job = await here.posted(DELIV)
        here.server.on("DELETE", f"/jobs/{job.job_id}", html(502))
        await here.cancellation.cancel(job.job_id)
        migrated.run("UPDATE jobs SET cancel_requested = cancel_requested - INTERVAL 1 HOUR")
        job = await here.cancellation.proceed(await here.now(job))
        assert job.due_at is not None
        assert 30 < (job.due_at - datetime.now(UTC)).total_seconds() <= 60


async def test_a_miss_takes_no_cancellation_away(opened: Opened) -> None:
    """FTS did not answer to the cancellation, then does not know the copy: it is asked again."""
    async with opened as here:
        job = await here.posted(DELIV)
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", html(500))
        job = await here.cancellation.cancel(job.job_id)
        assert phase(job) is Phase.STOPPING
        here.jobs.states.clear()
        await here.reconcile()
        again = await here.now(job)
        assert (again.fts_misses, again.due_at) == (1, job.due_at)

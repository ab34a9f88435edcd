"""What becomes of a job with FTS, and what its submitter is told meanwhile."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fts_bench import DELIV, Bench, bench
from samples import staged
from scripted_fts import Grid, html, reply

from deliv.db import Database
from deliv.delivery.failing import Failure
from deliv.delivery.transfers import sid
from deliv.failures import ErrorClass
from deliv.model import Job
from deliv.states import Event, Status
from deliv.store import NOW

Opened = AbstractAsyncContextManager[Bench]
CANCELLED_AT_ONCE = {"file_state": "CANCELED", "internal_file_params": "timeout:0"}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return Grid(tmp_path_factory.mktemp("grid"))


@pytest.fixture
def opened(grid: Grid, database: Database, tmp_path: Path) -> Opened:
    return bench(grid, database, tmp_path)


def takes(here: Bench, fts_jobid: str | None) -> None:
    here.server.on("POST", "/jobs", reply({"job_id": fts_jobid}))


async def waiting(here: Bench) -> Job:
    """A staged job that nobody has given to FTS."""
    job = await staged(here.store)
    return await here.store.update(job, stager_hostname="archive.example.org")


async def started(here: Bench, job: Job) -> tuple[Job, dict[str, Any]]:
    """The job after its start at an FTS that takes it; what FTS was asked to do."""
    takes(here, await here.endpoint.job_id(sid(job)))
    await here.transfers.start(job)
    return await here.now(job), json.loads(here.server.calls("POST", "/jobs")[-1].body)


async def lost_its_copy(here: Bench, job: Job) -> Job:
    """The stager is to stage it anew; the attempt may have left something."""
    failure = Failure(error_class=ErrorClass.SOURCE_MISSING, reason="gone", partial=True)
    return await here.failing.attempt(job, failure)


async def staged_again(here: Bench, job: Job, path: str) -> Job:
    place = {"stager_hostname": "h", "stager_path": path}
    return await here.store.apply(job, Event.STAGED, time_staged=NOW, **place)


async def test_why_a_job_waits_for_fts_is_told_until_it_goes_on(opened: Opened) -> None:
    async with opened as here:
        job = await here.posted(DELIV)
        job = await here.store.update(job, fts_posted=None, stager_hostname="archive.example.org")
        here.server.on("POST", "/jobs", html(500))
        await here.transfers.post(job)
        job = await here.now(job)
        assert (job.status, job.fts_posted) == (Status.TRANSFERRING, None)
        assert (job.detailed_status or "").startswith("waiting: FTS fts1 answered 500")
        assert job.due_at is not None
        takes(here, job.fts_jobid)
        await here.transfers.post(job)
        job = await here.now(job)
        assert job.fts_posted is not None
        assert (job.detailed_status, job.due_at) == (None, None)


async def test_a_job_that_no_fts_can_be_found_for_says_so(opened: Opened) -> None:
    async with opened as here:
        job = await waiting(here)
        here.server.on("GET", "/whoami", html(502))
        await here.transfers.start(job)
        job = await here.now(job)
        assert job.status is Status.STAGING
        assert (job.detailed_status or "").startswith("waiting: FTS fts1 answered 502")


async def test_a_destination_stays_with_its_job_while_it_is_staged_again(opened: Opened) -> None:
    """What an attempt may have left is overwritten; meanwhile nobody else puts a file there."""
    async with opened as here:
        job, asked = await started(here, await waiting(here))
        assert asked["params"]["overwrite"] is False
        key = sha256(b"gsiftp://user.example.org/data/a%20file.fits").digest()
        assert job.destination_key == key
        job = await lost_its_copy(here, job)
        assert (job.status, job.destination_key, job.partial) == (Status.STAGING, key, True)
        other, _ = await started(here, await waiting(here))
        assert (other.status, other.error_class) == (Status.ERROR, ErrorClass.EXISTS)
        job, asked = await started(here, await staged_again(here, job, "/again/a file.fits"))
        assert asked["params"]["overwrite"] is True


@pytest.mark.parametrize(
    "spelling", ["gsiftp://user.example.org:2811/data", "gsiftp://user.example.org.//data"]
)
async def test_a_job_of_an_earlier_release_has_its_file_for_itself_too(
    opened: Opened, spelling: str
) -> None:
    """Which kept the spelling of a destination that waits still; the same file has one writer."""
    async with opened as here:
        old = await staged(here.store, destination_path=spelling)
        old = await here.store.update(old, stager_hostname="archive.example.org")
        old, _ = await started(here, old)
        assert old.status is Status.TRANSFERRING
        other, _ = await started(here, await waiting(here))
        assert (other.status, other.error_class) == (Status.ERROR, ErrorClass.EXISTS)


async def test_nothing_is_overwritten_where_no_attempt_has_written(opened: Opened) -> None:
    """The stager names the file otherwise the next time."""
    async with opened as here:
        job, _ = await started(here, await waiting(here))
        job = await lost_its_copy(here, job)
        job, asked = await started(here, await staged_again(here, job, "/again/another.fits"))
        assert asked["params"]["overwrite"] is False
        assert job.status is Status.TRANSFERRING


async def test_a_cancelled_copy_that_fts_had_begun_may_leave_a_file(opened: Opened) -> None:
    """FTS calls it cancelled at once, its process goes on for seconds."""
    async with opened as here:
        job = await here.posted(DELIV)
        file = {**CANCELLED_AT_ONCE, "start_time": "2026-11-29T00:00:00"}
        told = {"job_id": job.fts_jobid, "job_state": "CANCELED", "files": [file]}
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", reply(told))
        here.server.on("GET", f"/jobs/{job.fts_jobid}", reply(told))
        job = await here.cancelling.cancel(job.job_id)
        assert job.status is Status.CANCELLED
        assert "may be left at gsiftp://user.example.org/data/a%20file.fits" in str(
            job.detailed_status
        )


async def test_a_cancelled_copy_that_fts_had_not_begun_leaves_nothing(opened: Opened) -> None:
    async with opened as here:
        job = await here.posted(DELIV)
        told = {"job_id": job.fts_jobid, "job_state": "CANCELED", "files": [CANCELLED_AT_ONCE]}
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", reply(told))
        here.server.on("GET", f"/jobs/{job.fts_jobid}", reply(told))
        job = await here.cancelling.cancel(job.job_id)
        assert (job.status, job.detailed_status) == (Status.CANCELLED, "cancelled on request")


async def test_a_copy_that_fts_does_not_know_yet_may_still_be_made(opened: Opened) -> None:
    async with opened as here:
        job = await here.posted(DELIV)
        job = await here.store.update(job, fts_posted=None)
        unknown = {"status": "404 Not Found", "message": "No job"}
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", reply(unknown, 404))
        job = await here.cancelling.cancel(job.job_id)
        assert job.status is Status.CANCELLED
        assert "may be left" in str(job.detailed_status)


async def test_a_miss_takes_no_cancellation_away(opened: Opened) -> None:
    """FTS did not answer to the cancellation, then does not know the copy: it is asked again."""
    async with opened as here:
        job = await here.posted(DELIV)
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", html(500))
        job = await here.cancelling.cancel(job.job_id)
        assert (job.status, job.is_to_end) == (Status.TRANSFERRING, True)
        here.jobs.states.clear()
        await here.reconcile()
        again = await here.now(job)
        assert (again.fts_misses, again.due_at) == (1, job.due_at)


async def test_a_url_that_fts_has_no_room_for_ends_the_job(opened: Opened) -> None:
    async with opened as here:
        job = await waiting(here)
        job = await here.store.update(job, stager_path="/" + "long" * 300)
        job = await here.store.apply(
            job, Event.TRANSFER, fts_endpoint="fts1", fts_jobid="x", attempt=9
        )
        await here.transfers.post(job)
        job = await here.now(job)
        assert job.status is Status.ERROR
        assert "longer than FTS takes, 1100 characters" in str(job.detailed_status)
        assert here.server.calls("POST", "/jobs") == []


async def test_a_destination_in_use_is_not_reported_as_a_file_that_is_there(opened: Opened) -> None:
    """The same class, but there may be no file to move away: the first delivery may yet fail."""
    async with opened as here:
        first, second = await waiting(here), await waiting(here)
        await started(here, first)
        await here.transfers.start(second)
        ended = await here.now(second)
        assert (ended.status, ended.error_class) == (Status.ERROR, ErrorClass.EXISTS)
        assert ended.detailed_status == (
            "another delivery to the same destination file is under way. A file has one writer at "
            "a time: wait until the other has ended, or choose another directory, then submit "
            "again."
        )


async def test_a_destination_in_use_at_fts_is_reported_likewise(opened: Opened) -> None:
    async with opened as here:
        job = await waiting(here)
        busy = {"status": "409 Conflict", "message": "The submission is duplicated"}
        here.server.on("POST", "/jobs", reply(busy, 409))
        absent = reply({"status": "404 Not Found", "message": "no such job"}, 404)
        here.server.on("GET", f"/jobs/{await here.endpoint.job_id(sid(job))}", absent)
        await here.transfers.start(job)
        ended = await here.now(job)
        assert (ended.status, ended.error_class) == (Status.ERROR, ErrorClass.EXISTS)
        told = str(ended.detailed_status)
        assert "The submission is duplicated. A file has one writer at a time" in told
        assert "already has a file" not in told

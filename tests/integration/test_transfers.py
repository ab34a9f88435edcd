"""What becomes of a job with FTS, and what its submitter sees meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from support.samples import staged

from deliv.db.database import Database
from deliv.delivery.ending.failure import Failure
from deliv.delivery.endpoints import sid
from deliv.errors import LostRace
from deliv.model.error_classes import ErrorClass
from deliv.model.states import Event, Status
from integration.fts_bench import DELIV, bench
from integration.scripted_fts import Grid, Reply, html, reply
from integration.transfer_steps import (
    FILE,
    SET,
    Opened,
    failed,
    lost_its_copy,
    opened_fixture,  # noqa: F401 - a fixture is used by its name
    shows,
    staged_again,
    started,
    takes,
    waiting,
)


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


@pytest.mark.parametrize("taken", [True, False])
async def test_only_an_answer_says_that_fts_has_a_transfer_that_another_claimed(
    opened: Opened, taken: bool
) -> None:
    async with opened as here:
        job = await here.posted(DELIV)
        job = await here.store.update(job, fts_posted=None, stager_hostname="archive.example.org")
        await here.store.update(job, detailed_status="claimed by another instance")
        if taken:
            takes(here, job.fts_jobid)
        else:
            here.server.on("POST", "/jobs", html(500))
        with pytest.raises(LostRace):
            await here.transfers.post(job)
        assert ((await here.now(job)).fts_posted is not None) == taken


async def test_a_job_that_no_fts_can_be_found_for_says_so(opened: Opened) -> None:
    async with opened as here:
        job = await waiting(here)
        here.server.on("GET", "/whoami", html(502))
        await here.transfers.start(job)
        job = await here.now(job)
        assert job.status is Status.STAGING
        assert (job.detailed_status or "").startswith("waiting: FTS fts1 answered 502")


async def test_a_destination_stays_with_its_job_while_it_is_staged_again(opened: Opened) -> None:
    """What an attempt has left is overwritten; meanwhile no other job puts a file there."""
    async with opened as here:
        job, asked = await started(here, await waiting(here))
        assert asked["params"]["overwrite"] is False
        key = sha256(b"gsiftp://user.example.org/data/a%20file.fits").digest()
        assert job.destination_key == key
        job = await lost_its_copy(here, job, copy_begun=True)
        assert (job.status, job.destination_key, job.copy_begun) == (Status.STAGING, key, True)
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


@pytest.mark.parametrize(
    "reason",
    [
        "TRANSFER [5] TRANSFER CHECKSUM MISMATCH USER_DEFINE and SRC checksums are different. 1!=2",
        "SOURCE [5] Source and user-defined ADLER32 checksum do not match (1 != 2)",
    ],
)
async def test_a_corrupt_staged_copy_is_staged_again_once(opened: Opened, reason: str) -> None:
    async with opened as here:
        job, _ = await started(here, await waiting(here))
        job = await failed(here, job, reason=reason, internal_file_params=SET)
        assert (job.status, job.attempt, job.stager_path) == (Status.STAGING, 2, None)
        job, _ = await started(here, await staged_again(here, job, "/again/a file.fits"))
        job = await failed(here, job, reason=reason, internal_file_params=SET)
        assert (job.status, job.error_class) == (Status.ERROR, "checksum")
        assert "archive's operators" in (job.detailed_status or "")


async def test_a_copy_to_another_place_is_not_the_delivery(opened: Opened) -> None:
    async with opened as here:
        job, _ = await started(here, await waiting(here))
        shows(here, job, state="FINISHED", file_state="FINISHED", dest_surl=f"{FILE}.old")
        await here.reconcile()
        job = await here.now(job)
        assert job.status is Status.TRANSFERRING
        assert "no clear answer" in (job.detailed_status or "")


async def test_a_copy_of_another_size_than_announced_is_staged_again(opened: Opened) -> None:
    async with opened as here:
        job = await here.store.update(await waiting(here), product_size=7)
        job, _ = await started(here, job)
        shows(here, job, state="FINISHED", filesize=5)
        await here.reconcile()
        job = await here.now(job)
        assert (job.status, job.attempt, job.stager_path) == (Status.STAGING, 2, None)
        job, asked = await started(here, await staged_again(here, job, "/again/a file.fits"))
        assert asked["params"]["overwrite"] is True  # FTS recorded the copy that it made there


async def test_a_corrupt_transfer_is_made_again_from_the_same_staged_copy(opened: Opened) -> None:
    async with opened as here:
        job, _ = await started(here, await waiting(here))
        job = await failed(
            here, job, reason="DESTINATION [22] Source and destination file size mismatch"
        )
        assert (job.status, job.stager_path) == (Status.TRANSFERRING, "/copy/a file.fits")


async def test_a_staged_copy_that_stays_unreadable_is_for_the_archive(opened: Opened) -> None:
    async with opened as here:
        job, _ = await started(here, await waiting(here))
        job = await failed(here, job, reason="SOURCE [2] No such file or directory")
        assert job.status is Status.STAGING
        job, _ = await started(here, await staged_again(here, job, "/again/a file.fits"))
        job = await failed(here, job, reason="SOURCE [2] No such file or directory")
        assert (job.status, job.error_class) == (Status.ERROR, "source missing")
        said = job.detailed_status or ""
        assert "report the product id and the job id to the archive's operators" in said
        assert "submit again" not in said


@pytest.mark.parametrize(
    ("message", "error_class", "advice"),
    [
        ("gsiftp://user.example.org is banned", "banned", "have banned this storage"),
        ("Not enough permissions", "credential", "delegate again"),
    ],
)
async def test_what_fts_forbids(
    opened: Opened, message: str, error_class: str, advice: str
) -> None:
    async with opened as here:
        job = await waiting(here)
        answer = {"status": "403 Forbidden", "message": message}
        here.server.on("POST", "/jobs", reply(answer, 403))
        await here.transfers.start(job)
        job = await here.now(job)
        assert (job.status, job.error_class) == (Status.ERROR, error_class)
        assert f"FTS fts1 answered 403: {message}. " in (job.detailed_status or "")
        assert advice in (job.detailed_status or "")


async def test_an_fts_that_has_banned_deliv_is_waited_out(opened: Opened) -> None:
    """It says so on a page, whatever it is asked; what the page says is reported."""
    page = (
        b"<!doctype html>\n<html lang=en>\n<title>403 Forbidden</title>\n<h1>Forbidden</h1>\n"
        b"<p>The user has been banned</p>\n"
    )
    async with opened as here:
        job = await waiting(here)
        banned = Reply(status=403, body=page, content_type="text/html; charset=utf-8")
        here.server.on("GET", "/whoami", banned)
        await here.transfers.start(job)
        job = await here.now(job)
        assert job.status is Status.STAGING
        assert job.detailed_status == (
            "waiting: FTS fts1 answered 403: text/html; charset=utf-8, not its JSON: "
            "Forbidden The user has been banned"
        )


async def test_many_attempts_wait_no_longer_than_the_database_can_store(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    """Doubled each time, a pause would soon pass the end of TIMESTAMP, in 2038."""
    async with bench(grid, database, tmp_path, other=100) as here:
        job = await here.store.update(await here.posted(DELIV), attempt=60)
        failure = Failure(error_class=ErrorClass.OTHER, reason="no luck")
        job = await here.failures.attempt(job, failure)
        assert job.due_at is not None
        assert 23 * 3600 < (job.due_at - datetime.now(UTC)).total_seconds() <= 24 * 3600


async def test_a_url_that_fts_has_no_room_for_ends_the_job(opened: Opened) -> None:
    async with opened as here:
        job = await waiting(here)
        job = await here.store.update(job, stager_path="/" + "long" * 300)
        job = await here.store.apply(
            job, Event.TRANSFER, fts_endpoint="fts1", fts_jobid="x", attempt=9
        )
        await here.transfers.post(job, again=False)
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
            f"another delivery to the same destination file is under way ({FILE}). A file has one "
            "writer at a time: wait until the other has ended, or choose another directory, then "
            "submit again."
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
        detail = str(ended.detailed_status)
        assert f"The submission is duplicated ({FILE}). A file has one writer at a time" in detail
        assert "already has a file" not in detail

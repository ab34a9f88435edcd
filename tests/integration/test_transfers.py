"""What becomes of a job with FTS, and what its submitter sees meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.private_mariadb import Server
from support.samples import staged

from deliv.db.database import Database
from deliv.delivery.ending.failure import Failure
from deliv.delivery.endpoints import sid
from deliv.errors import Conflict
from deliv.http.handlers.job_view import public
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.states import Event, Status
from deliv.store import NOW
from integration.fts_bench import DELIV, MISSES, Bench, bench
from integration.scripted_fts import Grid, Reply, html, reply

Opened = AbstractAsyncContextManager[Bench]
CANCELLED_AT_ONCE = {"file_state": "CANCELED", "internal_file_params": "timeout:0"}


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


async def lost_its_copy(here: Bench, job: Job, **proven: bool) -> Job:
    """The stager is to stage it again; the attempt may have left something."""
    failure = Failure(
        error_class=ErrorClass.SOURCE_MISSING, reason="gone", may_have_partial_file=True, **proven
    )
    return await here.failures.attempt(job, failure)


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


async def test_nothing_is_overwritten_where_no_attempt_has_written(opened: Opened) -> None:
    """The stager names the file otherwise the next time."""
    async with opened as here:
        job, _ = await started(here, await waiting(here))
        job = await lost_its_copy(here, job, copy_begun=True)
        job, asked = await started(here, await staged_again(here, job, "/again/another.fits"))
        assert asked["params"]["overwrite"] is False
        assert job.status is Status.TRANSFERRING


FILE = "gsiftp://user.example.org/data/a%20file.fits"
SET = "nostreams:0,timeout:16984,buffersize:0"  # by FTS, just before a copy
NOT_SET = "nostreams:0,timeout:0,buffersize:0"
STALLED = "No FTS server has updated the transfer status the last 900 seconds. Probably stalled"
CUT_OFF = "TRANSFER [70] TRANSFER  an end-of-file was reached"
CUT_OFF_WHILE_WRITING: dict[str, Any] = {"reason": CUT_OFF, "throughput": 1.5}


def shows(here: Bench, job: Job, state: str = "FAILED", **file: object) -> None:
    """FTS has this end of the job's only file."""
    entry = {"file_state": state, "dest_surl": FILE, **file}
    document = {"job_id": job.fts_jobid, "job_state": state, "files": [entry], "http_status": "200"}
    here.server.on("GET", f"/jobs/{job.fts_jobid}", reply(document))
    here.jobs.states.clear()


async def failed(here: Bench, job: Job, **file: object) -> Job:
    """FTS's word on the attempt, and what deliv makes of it."""
    shows(here, job, **file)
    await here.reconcile()
    return await here.now(job)


async def fts_lost_it(here: Bench, job: Job) -> None:
    unknown = {"job_id": job.fts_jobid, "http_status": "404 Not Found", "http_message": "No job"}
    for path in ("jobs", "archive"):
        here.server.on("GET", f"/{path}/{job.fts_jobid}", reply(unknown, 404))
    here.jobs.states.clear()
    for _ in range(MISSES):
        await here.reconcile()


async def fts_tells_of_another_file(here: Bench, job: Job) -> None:
    """As of an attempt of that number before the database was restored."""
    await failed(here, job, reason=CUT_OFF, dest_surl=f"{FILE}.old", throughput=1.5)


async def fts_names_no_file(here: Bench, job: Job) -> None:
    await failed(here, job, reason=CUT_OFF, dest_surl=None, throughput=1.5)


WITHOUT_FTS_WORD = (
    fts_lost_it,
    fts_tells_of_another_file,
    fts_names_no_file,
)
ALL_RETRIED = {str(one): 9 for one in ErrorClass if one is not ErrorClass.EXISTS}


@pytest.mark.parametrize("proven_before", [False, True])
@pytest.mark.parametrize("end", WITHOUT_FTS_WORD)
async def test_nothing_is_overwritten_where_fts_has_no_record_of_a_copy(
    grid: Grid,
    database: Database,
    tmp_path: Path,
    end: Callable[[Bench, Job], Awaitable[None]],
    proven_before: bool,
) -> None:
    """A file at the destination may be the user's own by then, whatever was proven earlier."""
    async with bench(grid, database, tmp_path, **ALL_RETRIED) as here:
        job, _ = await started(here, await waiting(here))
        if proven_before:
            job, asked = await started(here, await failed(here, job, **CUT_OFF_WHILE_WRITING))
            assert asked["params"]["overwrite"] is True
        attempt = job.attempt
        await end(here, job)
        job = await here.now(job)
        assert (job.attempt, job.status, job.copy_begun) == (
            attempt + 1,
            Status.TRANSFERRING,
            False,
        )
        job, asked = await started(here, job)
        assert asked["params"]["overwrite"] is False
        reason = "DESTINATION [17] Destination file exists and overwrite is not enabled"
        job = await here.compared(await failed(here, job, reason=reason))
        assert (job.status, job.error_class) == (Status.ERROR, "exists")
        assert f"may have copied to {FILE}" in (job.detailed_status or "")
        assert "or a file of yours" in (job.detailed_status or "")


@pytest.mark.parametrize(
    "file",
    [
        CUT_OFF_WHILE_WRITING,
        {"reason": "GENERAL_FAILURE [5] killed", "throughput": 1.5},
        {"reason": STALLED, "throughput": 1.5},
        {"reason": "DESTINATION [22] Source and destination file size mismatch"},
    ],
    ids=["while writing", "after some bytes", "with its process", "after all"],
)
async def test_what_fts_recorded_as_begun_is_overwritten(
    opened: Opened, file: dict[str, object]
) -> None:
    async with opened as here:
        job, asked = await started(here, await waiting(here))
        assert asked["params"]["overwrite"] is False
        job = await failed(here, job, **file)
        assert job.copy_begun
        if job.status is Status.STAGING:
            job = await staged_again(here, job, "/again/a file.fits")
        job, asked = await started(here, job)
        assert asked["params"]["overwrite"] is True


@pytest.mark.parametrize(
    "file",
    [
        {"reason": "GENERAL_FAILURE [5] killed"},
        {"reason": STALLED},
        {"reason": "Storage banned", "state": "CANCELED"},
        {"reason": "DESTINATION [70] Connection refused"},
        {"reason": CUT_OFF, "throughput": 0.0},
    ],
    ids=["killed", "stalled", "banned", "out of reach", "cut off before a byte"],
)
async def test_an_attempt_that_ended_before_its_copy_lets_none_overwrite(
    grid: Grid, database: Database, tmp_path: Path, file: dict[str, Any]
) -> None:
    async with bench(grid, database, tmp_path, **ALL_RETRIED) as here:
        job, _ = await started(here, await waiting(here))
        job = await failed(here, job, internal_file_params=NOT_SET, **file)
        assert (job.attempt, job.partial, job.copy_begun) == (2, False, False)
        _, asked = await started(here, job)
        assert asked["params"]["overwrite"] is False


async def test_a_copy_that_failed_before_its_first_byte_leaves_nothing(opened: Opened) -> None:
    """What was proven of an earlier attempt is still so."""
    async with opened as here:
        job, _ = await started(here, await waiting(here))
        job, _ = await started(here, await failed(here, job, **CUT_OFF_WHILE_WRITING))
        job = await failed(here, job, reason="DESTINATION [70] Connection refused")
        assert job.copy_begun
        _, asked = await started(here, job)
        assert asked["params"]["overwrite"] is True


@pytest.mark.parametrize(
    "reason",
    [
        "TRANSFER [5] TRANSFER CHECKSUM MISMATCH USER_DEFINE and SRC checksums are different. 1!=2",
        "TRANSFER [13] TRANSFER  error 550 550-GridFTP-Reason: System error in mkdir  Permission "
        "denied",
    ],
)
async def test_what_failed_before_the_copy_says_nothing_of_remains(
    grid: Grid, database: Database, tmp_path: Path, reason: str
) -> None:
    async with bench(grid, database, tmp_path, checksum=1) as here:
        job, _ = await started(here, await waiting(here))
        job = await failed(here, job, reason=reason, internal_file_params=SET)
        assert job.status is Status.ERROR
        assert "may be left" not in (job.detailed_status or "")


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

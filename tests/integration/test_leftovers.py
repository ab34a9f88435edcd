"""What a job that ended in ERROR has left is not in the way of the one that repeats it.

But a file that may be the user's own is never overwritten.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from deliv_testbed import ports
from support.samples import admitted, staged

from deliv.db.database import Database
from deliv.delivery.ending.failure import Failure
from deliv.delivery.endpoints import sid
from deliv.gateways.gridftp import FileFacts, GridFtp
from deliv.model.error_classes import ErrorClass
from deliv.model.file import FileState, ReportedFile
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.states import Status
from integration.files_steps import (
    CUT_OFF,
    SIZE,
    THERE,
    but,
    copied,
    expecting,
    files,
    report,
    taken,
)
from integration.files_steps import shows as files_shown
from integration.files_steps import started as files_started
from integration.fts_bench import Bench, bench
from integration.scripted_fts import Grid, reply
from integration.test_destination_comparison import (
    NAME,
    PRODUCT,
    Destination,
    Held,
    Open,
    ended,
    finds_it,
    judged,
)
from integration.test_destination_comparison import destination as destination_fixture
from integration.transfer_steps import CUT_OFF_WHILE_WRITING

destination = destination_fixture
PART = PRODUCT[: len(PRODUCT) // 3]
UNSEEN: dict[str, object] = {"reason": "GENERAL_FAILURE [5] killed"}  # whether it had begun
MISMATCH = "TRANSFER [5] TRANSFER  Checksum mismatch, USER_DEFINE and DST are different"


@pytest.fixture
def opened(grid: Grid, database: Database, tmp_path: Path) -> Open:
    """Each job has a single attempt."""
    return lambda reader: bench(grid, database, tmp_path, reader, unreachable=1, other=1)


async def handed_over(here: Bench, at: Destination, retry_of: Job | None = None) -> Job:
    """A job whose product is staged on the same server, when FTS has it."""
    copy = at.server.root / "staged" / NAME
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(PRODUCT)
    at.account.own(copy.parent)
    at.account.own(copy)
    job = await staged(
        here.store,
        destination_path=at.server.url,
        destination_host=ports.LOOPBACK,
        retry_of=retry_of and retry_of.job_id,
    )
    job = await here.store.update(
        job,
        stager_hostname=f"{ports.LOOPBACK}:{at.server.port}",
        stager_path=str(copy),
        product_size=len(PRODUCT),
        checksum=f"ADLER32:{zlib.adler32(PRODUCT):08x}",
    )
    return await started(here, job, overwrite=False)


async def started(here: Bench, job: Job, *, overwrite: bool) -> Job:
    here.server.on("POST", "/jobs", reply({"job_id": await here.endpoint.job_id(sid(job))}))
    await here.transfers.start(job)
    asked = json.loads(here.server.calls("POST", "/jobs")[-1].body)
    assert asked["params"]["overwrite"] is overwrite
    return await here.now(job)


async def failed(here: Bench, at: Destination, left: bytes | None, **how: object) -> Job:
    """A job that ended in ERROR, and what it has left."""
    (at.server.root / NAME).unlink(missing_ok=True)
    job = await handed_over(here, at)
    if left is not None:
        at.put(left)
    file = {"file_state": "FAILED", "dest_surl": f"{at.server.url}/a%20file.fits", **how}
    document = {"job_id": job.fts_jobid, "job_state": "FAILED", "files": [file]}
    here.server.on("GET", f"/jobs/{job.fts_jobid}", reply({**document, "http_status": "200"}))
    await here.reconcile()
    job = await given_up(here, await here.now(job))
    return await here.store.update(job, destination_key=None)  # as when it is cleaned up


async def given_up(here: Bench, job: Job) -> Job:
    """The job, ended: one that waits for its server does when its time is over.

    The server does not rest any more then.
    """
    if job.waiting_for is not None:
        await here.parts.database.execute("DELETE FROM rests")
        job = await here.failures.overdue(job, Failure(error_class=ErrorClass.DEADLINE, reason=""))
    assert job.status is Status.ERROR
    return job


@pytest.mark.parametrize("left", [PART, b""], ids=["a part", "nothing yet"])
async def test_a_part_that_fts_has_recorded_is_overwritten(
    opened: Open, destination: Destination, left: bytes
) -> None:
    async with opened(destination.reader()) as here:
        first = await failed(here, destination, left, **CUT_OFF_WHILE_WRITING)
        again = await handed_over(here, destination, first)
        finds_it(here, again)
        await here.reconcile()
        again = await here.compared(again)
        assert (phase(again), again.attempt) == (Phase.STAGED, 2)
        assert f"it is the part that job {first.job_id}" in (again.detailed_status or "")
        await started(here, again, overwrite=True)


async def test_one_that_is_whole_has_arrived(opened: Open, destination: Destination) -> None:
    async with opened(destination.reader()) as here:
        first = await failed(here, destination, PRODUCT, **CUT_OFF_WHILE_WRITING)
        again = await judged(here, await handed_over(here, destination, first))
        assert (again.status, again.attempt) == (Status.SUCCESS, 1)
        assert "same size and checksum" in (again.detailed_status or "")


def moved_there(file: Path) -> None:
    """By the user, from elsewhere: it keeps its time."""
    written = file.stat()
    file.write_bytes(b"x" * len(PART))
    os.utime(file, ns=(written.st_atime_ns, written.st_mtime_ns))


def written_to(file: Path) -> None:
    """The user's own copy of the product may be under way."""
    later = file.stat().st_mtime + 60
    os.utime(file, (later, later))


def nothing(file: Path) -> None:
    """It is as it was."""


@pytest.mark.parametrize(
    ("meanwhile", "how", "words"),
    [
        (written_to, CUT_OFF_WHILE_WRITING, "it was written to after job"),
        (moved_there, CUT_OFF_WHILE_WRITING, "it is not the beginning of the product"),
        (nothing, UNSEEN, "FTS has no record that job"),
    ],
    ids=["written to since", "another file", "no record"],
)
async def test_what_may_be_a_users_own_is_left_alone(
    opened: Open,
    destination: Destination,
    meanwhile: Callable[[Path], None],
    how: dict[str, Any],
    words: str,
) -> None:
    async with opened(destination.reader()) as here:
        set_by_fts = {"internal_file_params": "nostreams:0,timeout:16984,buffersize:0"}
        first = await failed(here, destination, PART, **{**set_by_fts, **how})
        file = destination.server.root / NAME
        meanwhile(file)
        before = file.read_bytes()
        again = await judged(here, await handed_over(here, destination, first))
        assert (again.status, again.error_class, again.attempt) == (Status.ERROR, "exists", 1)
        status = again.detailed_status or ""
        assert f"it has {len(PART)} bytes, not {len(PRODUCT)}; {words}" in status
        assert "look at it before you move or remove it" in status
        assert (again.partial, file.read_bytes()) == (True, before)


async def test_where_nothing_was_left_nothing_is_read(
    opened: Open, destination: Destination
) -> None:
    """What is there now is somebody's own."""
    reader = Held(destination.reader())
    async with opened(reader) as here:
        first = await failed(here, destination, None, reason="SOURCE [111] Connection refused")
        destination.put(PRODUCT)
        again = await judged(here, await handed_over(here, destination, first))
        assert (again.status, again.error_class, reader.asked) == (Status.ERROR, "exists", [])


async def test_an_attempt_that_overwrites_is_the_jobs_own(
    opened: Open, destination: Destination
) -> None:
    """What it leaves without FTS's record is not taken for the other job's a second time."""
    async with opened(destination.reader()) as here:
        first = await failed(here, destination, PART, **CUT_OFF_WHILE_WRITING)
        again = await handed_over(here, destination, first)
        finds_it(here, again)
        await here.reconcile()
        again = await started(here, await here.compared(again), overwrite=True)
        finds_it(here, again)  # a directory in the way, say
        await here.reconcile()
        again = await ended(here, again)
        assert (again.status, again.error_class, again.attempt) == (Status.ERROR, "exists", 2)


STOPPED: dict[str, object] = {
    "reason": "Job canceled by the user", "start_time": "2030-01-31T18:00:00",
}  # fmt: skip


def shows(here: Bench, at: Destination, job: Job, state: str = "FAILED", **how: object) -> None:
    """FTS has this end of the job's transfer."""
    file = {"file_state": state, "dest_surl": f"{at.server.url}/a%20file.fits", **how}
    document = {"job_id": job.fts_jobid, "job_state": state, "files": [file], "http_status": "200"}
    for method in ("GET", "DELETE"):
        here.server.on(method, f"/jobs/{job.fts_jobid}", reply(document))


async def at_its_deadline(here: Bench, job: Job) -> Job:
    """The job, ended: FTS is asked to stop its transfers."""
    await here.cancellation.expire(job.job_id)
    await here.cancellation.proceed(await here.now(job))
    job = await here.now(job)
    assert job.error_class == "deadline"
    return await here.store.update(job, destination_key=None)  # as when it is cleaned up


async def unclear(here: Bench, job: Job) -> Job:
    """The job, ended: the last one of its transfers is out of FTS's memory."""
    document = {"job_id": job.fts_jobid, "job_state": "FAILED", "http_status": "200"}
    file = {"file_state": "FAILED", "internal_file_params": "nostreams:0,timeout:9,buffersize:0"}
    here.server.on(
        "GET", f"/jobs/{job.fts_jobid}", reply({**document, "files": [{**file, **UNSEEN}]})
    )
    await here.reconcile()
    job = await here.now(job)
    assert job.status is Status.ERROR
    return await here.store.update(job, destination_key=None)


@pytest.mark.parametrize("end", [at_its_deadline, unclear])
async def test_fts_may_have_recorded_the_copy_of_any_attempt(
    grid: Grid,
    database: Database,
    tmp_path: Path,
    destination: Destination,
    end: Callable[[Bench, Job], Awaitable[Job]],
) -> None:
    """The last one of the other job overwrites, and ends without a record."""
    async with bench(grid, database, tmp_path, destination.reader(), checksum=2, other=1) as here:
        (destination.server.root / NAME).unlink(missing_ok=True)
        job = await handed_over(here, destination)
        shows(here, destination, job, reason=MISMATCH, throughput=1.5)
        await here.reconcile()
        job = await started(here, await here.now(job), overwrite=True)
        assert job.attempt == 2
        destination.put(PART)
        shows(here, destination, job, "CANCELED", **STOPPED)
        first = await end(here, job)
        assert (first.partial, first.copy_begun) == (True, False)
        again = await handed_over(here, destination, first)
        finds_it(here, again)
        await here.reconcile()
        again = await here.compared(again)
        assert f"it is the part that job {first.job_id}" in (again.detailed_status or "")
        await started(here, again, overwrite=True)


async def test_what_a_job_left_is_known_behind_one_that_did_not_begin(
    opened: Open, destination: Destination
) -> None:
    """That one repeats the first, and is repeated by the third."""
    async with opened(destination.reader()) as here:
        first = await failed(here, destination, PART, **CUT_OFF_WHILE_WRITING)
        second = await handed_over(here, destination, first)
        shows(here, destination, second, "CANCELED", reason="Job canceled by the user")
        second = await at_its_deadline(here, second)
        assert (second.partial, second.copy_begun) == (False, False)
        third = await handed_over(here, destination, second)
        finds_it(here, third)
        await here.reconcile()
        third = await here.compared(third)
        assert f"it is the part that job {first.job_id}" in (third.detailed_status or "")
        await started(here, third, overwrite=True)


class Reader(GridFtp):
    """In place of the servers: what is at the destination, by name, and the product's beginning."""

    def __init__(self, **there: FileFacts) -> None:
        self.there = there

    async def read(
        self, url: str, *, size: int, algorithm: str, credential: tuple[bytes, bytes]
    ) -> FileFacts:
        return self.there[url.rpartition("/")[2]]

    async def read_beginning(
        self, url: str, *, size: int, algorithm: str, credential: tuple[bytes, bytes]
    ) -> FileFacts:
        assert url.startswith("gsiftp://archive.example.org/staging/tree/")
        return FileFacts(size=SIZE, checksum="b" * size)


async def test_of_many_files_what_arrived_is_delivered_and_parts_are_replaced(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    arrived = FileFacts(size=SIZE, checksum="a", modified=0)
    part, other = (FileFacts(size=1, checksum=found, modified=0) for found in "bc")
    reader = Reader(arrived=arrived, part=part, other=other)
    names = ("arrived", "part", "other", "own")
    listed = [ReportedFile(name=name, size=SIZE, checksum="ADLER32:0000000a") for name in names]
    async with bench(grid, database, tmp_path, reader, unreachable=1, other=1) as here:
        job = await expecting(here, await admitted(here.store))
        job = await taken(here, job, report(job, listed))
        cut_off = {"part": CUT_OFF, "other": CUT_OFF, "own": THERE}
        first, _ = await copied(here, job, but(cut_off))
        first = await given_up(here, first)
        assert first.files_done == 1
        await here.cleanup.clean_up(first)
        job = await expecting(here, await admitted(here.store, retry_of=first.job_id))
        job = await taken(here, job, report(job, listed))
        job, _ = await copied(here, job, lambda name: THERE)
        job = await here.compared(job)
        assert (phase(job), job.attempt, job.files_done) == (Phase.STAGED, 2, 1)
        job, again = await copied(here, job)
        assert again == ["part"]
        asked = json.loads(here.server.calls("POST", "/jobs")[-1].body)
        assert asked["params"]["overwrite"] is True
        assert (job.status, job.error_class, job.files_done) == (Status.ERROR, "exists", 2)
        left = await files(here, job, FileState.FAILED)
        assert {file.name: file.partial for file in left} == {"other": True, "own": False}
        assert {"the beginning of the product" in (file.reason or "") for file in left} == {
            True, False,
        }  # fmt: skip


@pytest.mark.parametrize("others", [0, 1])
async def test_of_many_files_any_attempt_of_any_job_counts(
    grid: Grid, database: Database, tmp_path: Path, others: int
) -> None:
    """The other job was stopped at its deadline, in an attempt behind the one that FTS recorded.

    So were `others` that repeated it, before they had begun.
    """
    reader = Reader(part=FileFacts(size=1, checksum="b", modified=0))
    listed = [ReportedFile(name="part", size=SIZE, checksum="ADLER32:0000000a")]
    listed.append(ReportedFile(name="whole", size=SIZE, checksum="ADLER32:0000000a"))
    cancelled = {"file_state": "CANCELED", **STOPPED}
    unbegun = cancelled | {"start_time": None}
    async with bench(grid, database, tmp_path, reader, checksum=2, unreachable=1) as here:
        job = await expecting(here, await admitted(here.store))
        job = await taken(here, job, report(job, listed))
        recorded = {"file_state": "FAILED", "reason": MISMATCH, "throughput": 1.5}
        job, _ = await copied(here, job, but({"part": recorded}))
        assert (phase(job), job.attempt, job.files_done) == (Phase.STAGED, 2, 1)
        job, asked = await files_started(here, job)
        files_shown(here, job, asked, but({"part": cancelled}), "CANCELED")
        first = await at_its_deadline(here, job)
        (left,) = await files(here, first, FileState.FAILED)
        assert (left.partial, left.copy_begun) == (True, False)
        await here.cleanup.clean_up(first)
        last = first
        for _ in range(others):
            job = await expecting(here, await admitted(here.store, retry_of=last.job_id))
            job = await taken(here, job, report(job, listed))
            job, asked = await files_started(here, job)
            files_shown(here, job, asked, lambda name: unbegun, "CANCELED")
            last = await at_its_deadline(here, job)
            await here.cleanup.clean_up(last)
        job = await expecting(here, await admitted(here.store, retry_of=last.job_id))
        job = await taken(here, job, report(job, listed))
        job, _ = await copied(here, job, but({"part": THERE}))
        job = await here.compared(job)
        assert (phase(job), job.attempt, job.files_done) == (Phase.STAGED, 2, 1)
        (waiting,) = await files(here, job, FileState.WAITING)
        assert f"the part that job {first.job_id}" in (waiting.reason or "")
        job, asked = await files_started(here, job)
        assert asked["params"]["overwrite"] is True

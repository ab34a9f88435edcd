"""Whether an attempt overwrites what is at the destination."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from deliv.db.database import Database
from deliv.model.job import Job
from deliv.model.states import Status
from integration.fts_bench import MISSES, Bench, bench
from integration.scripted_fts import Grid, reply
from integration.transfer_steps import (
    ALL_RETRIED,
    CUT_OFF,
    CUT_OFF_WHILE_WRITING,
    FILE,
    SET,
    Opened,
    failed,
    lost_its_copy,
    opened_fixture,  # noqa: F401 - a fixture is used by its name
    staged_again,
    started,
    waiting,
)

NOT_SET = "nostreams:0,timeout:0,buffersize:0"
STALLED = "No FTS server has updated the transfer status the last 900 seconds. Probably stalled"


async def test_nothing_is_overwritten_where_no_attempt_has_written(opened: Opened) -> None:
    """The stager names the file otherwise the next time."""
    async with opened as here:
        job, _ = await started(here, await waiting(here))
        job = await lost_its_copy(here, job, copy_begun=True)
        assert job.copy_recorded
        job, asked = await started(here, await staged_again(here, job, "/again/another.fits"))
        assert asked["params"]["overwrite"] is False
        assert (job.status, job.copy_recorded) == (Status.TRANSFERRING, False)


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

"""What a test does to a job at FTS, step by step, and the fixture `opened`."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from support.samples import staged

from deliv.db.database import Database
from deliv.delivery.ending.failure import Failure
from deliv.delivery.endpoints import sid
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job
from deliv.model.states import Event
from deliv.store import NOW
from integration.fts_bench import Bench, bench
from integration.scripted_fts import Grid, reply

Opened = AbstractAsyncContextManager[Bench]
FILE = "gsiftp://user.example.org/data/a%20file.fits"
SET = "nostreams:0,timeout:16984,buffersize:0"  # by FTS, just before a copy
CUT_OFF = "TRANSFER [70] TRANSFER  an end-of-file was reached"
CUT_OFF_WHILE_WRITING: dict[str, Any] = {"reason": CUT_OFF, "throughput": 1.5}
ALL_RETRIED = {str(one): 9 for one in ErrorClass if one is not ErrorClass.EXISTS}


@pytest.fixture(name="opened")
def opened_fixture(grid: Grid, database: Database, tmp_path: Path) -> Opened:
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

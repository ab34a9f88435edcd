"""Steps of a job of many files, from the stager's report to the end of a transfer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from support.samples import admitted, open_transfers

from deliv.db.database import Database
from deliv.delivery import authcode
from deliv.model.file import File, FileListing, FileState, ReportedFile
from deliv.model.job import Job, StageReport
from deliv.model.phase import AT_STAGER, Phase, phase
from integration.fts_bench import Bench, bench
from integration.scripted_delegation import WHOAMI
from integration.scripted_fts import Asked, Grid, Reply, reply

Opened = AbstractAsyncContextManager[Bench]
Posted = dict[str, Any]  # the body of a submission to FTS
Ends = Callable[[str], dict[str, Any]]  # how FTS ends a file, by its name

CODE = "0123456789abcdef0123456789abcdef"
SIZE = 5
DIRECTORY = "gsiftp://user.example.org/data/tree"
DENIED = {
    "file_state": "FAILED",
    "reason": "TRANSFER [13] TRANSFER  error 550 550-GridFTP-Reason: System error in mkdir "
    "Permission denied",
}
MISSING = {"file_state": "FAILED", "reason": "SOURCE [2] No such file or directory"}
UNREACHABLE = {"file_state": "FAILED", "reason": "DESTINATION [70] Connection refused"}
CUT_OFF = {
    "file_state": "FAILED",
    "reason": "TRANSFER [70] TRANSFER  an end-of-file was reached",
    "throughput": 1.5,
}
THERE = {
    "file_state": "FAILED",
    "reason": "DESTINATION [17] Destination file exists and overwrite is not enabled",
}


@pytest.fixture(name="opened")
def opened_fixture(grid: Grid, database: Database, tmp_path: Path) -> Opened:
    return bench(grid, database, tmp_path)


def names(count: int) -> list[str]:
    return [f"chunk/{number:05}" for number in range(1, count + 1)]


def finished(name: str) -> dict[str, Any]:
    return {"file_state": "FINISHED", "filesize": SIZE}


def but(ends: dict[str, dict[str, Any]]) -> Ends:
    """All arrive but these."""
    return lambda name: ends.get(name) or finished(name)


async def expecting(here: Bench, job: Job) -> Job:
    """The job, about which the stager may report with CODE."""
    job, staging = await here.store.enter_staging(job, 3600)
    await here.store.update_staging(staging, delay=3600, code=authcode.digest(CODE))
    return await here.now(job)


async def taken(here: Bench, job: Job, report: StageReport) -> Job:
    """The job after the stager has reported."""
    await here.parts.staging.report(report)
    if phase(await here.now(job)) in AT_STAGER:  # not the one that the stager knows it by
        await here.parts.staging.proceed(await here.now(job))
    return await here.now(job)


def report(
    job: Job, files: Sequence[str] | Sequence[ReportedFile] | None, **changes: Any
) -> StageReport:
    listed = None
    if files is not None:
        listed = (
            [ReportedFile(name=name, size=SIZE) for name in files]
            if isinstance(files[0], str)
            else files
        )
    usual: dict[str, Any] = {
        "job_id": job.staging_id or job.job_id,
        "product_id": job.product_id,
        "authcode": CODE,
        "success": True,
        "staged_to": "archive.example.org",
        "path": "/staging/tree",
        "msg": None,
    }
    return StageReport(**usual | {"files": listed} | changes)


async def reported(here: Bench, count: int, **changes: Any) -> Job:
    job = await expecting(here, await admitted(here.store, product_id=f"tree-{uuid.uuid4()}"))
    return await taken(here, job, report(job, names(count), **changes))


async def started(
    here: Bench, job: Job, hand_over: Callable[[Job], Awaitable[None]] | None = None
) -> tuple[Job, dict[str, Any]]:
    """The job after FTS has taken its next transfer, and what FTS was asked for."""

    def take(asked: Asked) -> Reply:
        sid = json.loads(asked.body)["params"]["sid"]
        return reply({"job_id": str(uuid.uuid5(uuid.UUID(str(WHOAMI["vos_id"][0])), sid))})

    here.server.on("POST", "/jobs", take)
    await (hand_over or here.transfers.start)(job)
    return await here.now(job), json.loads(here.server.calls("POST", "/jobs")[-1].body)


def shows(here: Bench, job: Job, asked: dict[str, Any], ends: Ends, state: str) -> None:
    """FTS has this end of the job's newest transfer."""
    shown(here, job.fts_jobid or "", asked, ends, state)


def shown(
    here: Bench, fts_jobid: str, asked: dict[str, Any], ends: Ends, state: str
) -> dict[str, Any]:
    """What FTS says of a transfer from now on."""
    files = [
        {"dest_surl": url, **ends(url.removeprefix(f"{DIRECTORY}/"))}
        for one in asked["files"]
        for url in one["destinations"]
    ]
    document = {"job_id": fts_jobid, "job_state": state, "files": files, "http_status": "200"}
    here.server.on("GET", f"/jobs/{fts_jobid}", reply(document))
    here.server.on("DELETE", f"/jobs/{fts_jobid}", reply(document))
    return document


async def copied(
    here: Bench, job: Job, ends: Ends = finished, state: str = "FINISHEDDIRTY"
) -> tuple[Job, list[str]]:
    """The job after its next transfer, and the names of the files that were in it."""
    job, asked = await started(here, job)
    shows(here, job, asked, ends, state)
    await settled(here, job)
    urls = [one["destinations"][0] for one in asked["files"]]
    return await here.now(job), [url.removeprefix(f"{DIRECTORY}/") for url in urls]


async def settled(here: Bench, job: Job) -> None:
    """As when it is polled: the transfer that was assigned last."""
    (*_, transfer) = await open_transfers(here.store, job)
    details = await here.endpoint.details([transfer.fts_jobid])
    await here.settlement.settle(job, transfer, details[transfer.fts_jobid])


async def all_copied(here: Bench, job: Job, ends: Ends = finished) -> tuple[Job, list[list[str]]]:
    """The job when it is no longer STAGED, and the transfers that it took."""
    transfers = []
    while phase(job) is Phase.STAGED:
        job, one = await copied(here, job, ends)
        transfers.append(one)
    return job, transfers


async def files(here: Bench, job: Job, state: FileState | None = None) -> list[File]:
    return await here.store.files(job, FileListing(state=state, limit=1000))


async def states(here: Bench, job: Job) -> dict[FileState, int]:
    found: dict[FileState, int] = {}
    for file in await files(here, job):
        found[file.state] = found.get(file.state, 0) + 1
    return found


def done(job: Job) -> tuple[int | None, ...]:
    return job.files_total, job.files_done, job.bytes_total, job.bytes_done


async def all_copied_once(here: Bench, job: Job, ends: Ends) -> tuple[Job, list[list[str]]]:
    """As `all_copied`, of this attempt."""
    attempt, transfers = job.attempt, []
    while phase(job) is Phase.STAGED and job.attempt == attempt:
        job, one = await copied(here, job, ends)
        transfers.append(one)
    return job, transfers


async def count(here: Bench, table: str) -> int:
    (row,) = await here.parts.database.query(f"SELECT COUNT(*) AS number FROM {table}")  # noqa: S608
    return int(row["number"])


async def two_open(here: Bench, count: int = 450) -> tuple[Job, Posted, Posted]:
    """A job with its second and its third transfer at FTS, and what each of them was asked."""
    job, _ = await copied(here, await reported(here, count))
    job, second = await started(here, job)
    job, third = await another(here, job)
    assert phase(job) is Phase.COPYING
    return job, second, third


async def another(here: Bench, job: Job) -> tuple[Job, Posted]:
    """The job after more of its files were handed over."""
    return await started(here, job, here.transfers.start_another)


async def ended(
    here: Bench,
    job: Job,
    number: int,
    asked: Posted,
    ends: Ends = finished,
    state: str = "FINISHED",
) -> Job:
    """The job when the transfer of this place among the open ones is over."""
    transfer = (await open_transfers(here.store, job))[number]
    shown(here, transfer.fts_jobid, asked, ends, state)
    details = await here.endpoint.details([transfer.fts_jobid])
    await here.settlement.settle(job, transfer, details[transfer.fts_jobid])
    return await here.now(job)


async def other_users(here: Bench, name: str, count: int) -> Job:
    job = await admitted(here.store, submitter=f"/CN={name}", product_id=name)
    listed = report(await expecting(here, job), names(count), path=f"/staging/{name}")
    return await taken(here, job, listed)

"""Files that are staged again, or lost by FTS: what is there is not copied twice."""

from __future__ import annotations

from pathlib import Path

from support.samples import admitted, open_transfers

from deliv.db.database import Database
from deliv.delivery.ending.failure import FRESH_STAGING
from deliv.gateways.gridftp import FileFacts, GridFtp
from deliv.model.file import FileState, ReportedFile
from deliv.model.states import Event, Status
from integration.files_steps import (
    DIRECTORY,
    MISSING,
    SIZE,
    THERE,
    Opened,
    all_copied,
    all_copied_once,
    but,
    copied,
    done,
    expecting,
    files,
    names,
    opened_fixture,  # noqa: F401 - fixtures are used by their names
    report,
    reported,
    started,
    states,
    taken,
)
from integration.fts_bench import MISSES, bench
from integration.scripted_fts import Grid, reply


async def test_staged_again_what_is_there_stays_there(opened: Opened) -> None:
    async with opened as here:
        job = await reported(here, 30)
        job, _ = await all_copied_once(here, job, but({"chunk/00007": MISSING}))
        assert (job.status, job.attempt) == (Status.STAGING, 2)
        job = await expecting(here, job)
        job = await taken(here, job, report(job, names(30)))
        assert done(job) == (30, 29, 30 * SIZE, 29 * SIZE)
        job, again = await copied(here, job)
        assert again == ["chunk/00007"]
        assert job.status is Status.SUCCESS


async def test_staged_again_what_has_another_size_is_replaced(opened: Opened) -> None:
    """FTS has recorded the copy that is there."""
    async with opened as here:
        job = await reported(here, 3)
        job, _ = await copied(here, job, but({"chunk/00001": MISSING}))
        job = await expecting(here, job)
        listed = [ReportedFile(name=name, size=SIZE + (name == "chunk/00002")) for name in names(3)]
        job = await taken(here, job, report(job, listed))
        assert job.files_done == 1
        _, asked = await started(here, job)
        assert asked["params"]["overwrite"] is True
        assert [one["destinations"] for one in asked["files"]] == [[f"{DIRECTORY}/chunk/00002"]]


async def test_staged_again_without_the_missing_ones_it_is_delivered(opened: Opened) -> None:
    async with opened as here:
        job = await reported(here, 3)
        job, _ = await copied(here, job, but({"chunk/00003": MISSING}))
        job = await expecting(here, job)
        job = await taken(here, job, report(job, names(2)))
        await here.transfers.start(job)
        job = await here.now(job)
        assert (job.status, job.files_done) == (Status.SUCCESS, 2)


async def test_staged_again_as_many_files_it_gives_up_the_single_one(opened: Opened) -> None:
    async with opened as here:
        job = await expecting(here, await admitted(here.store))
        job = await taken(here, job, report(job, None, path="/staging/tree"))
        job, _ = await started(here, job)
        assert job.destination_key is not None
        again = {"attempt": 2, **FRESH_STAGING}
        job = await expecting(here, await here.store.apply(job, Event.RESTAGE, **again))
        job = await taken(here, job, report(job, names(2)))
        assert (job.files_total, job.destination_key) == (2, None)
        job, _ = await all_copied(here, job)
        assert job.status is Status.SUCCESS, job.detailed_status


async def test_of_a_lost_transfer_nothing_is_taken_to_be_there(opened: Opened) -> None:
    async with opened as here:
        job = await reported(here, 15)
        job, _ = await copied(here, job)
        job, _ = await started(here, job)
        unknown = {
            "job_id": job.fts_jobid,
            "http_status": "404 Not Found",
            "http_message": "No job",
        }
        for path in ("jobs", "archive"):
            here.server.on("GET", f"/{path}/{job.fts_jobid}", reply(unknown, 404))
        for _ in range(MISSES):
            await here.reconcile()
        job = await here.now(job)
        assert (job.attempt, job.files_done) == (2, 10)
        assert await states(here, job) == {FileState.FINISHED: 10, FileState.WAITING: 5}
        waiting = await files(here, job, FileState.WAITING)
        assert {(file.partial, file.copy_begun) for file in waiting} == {(True, False)}
        job, again = await copied(here, job)
        assert again == names(15)[10:]
        assert job.status is Status.SUCCESS


class Reader(GridFtp):
    """In place of a destination: what it has, by URL; all else it has not."""

    def __init__(self, **there: FileFacts) -> None:
        self.there = there

    async def read(
        self, url: str, *, size: int, algorithm: str, credential: tuple[bytes, bytes]
    ) -> FileFacts:
        return self.there[url.rpartition("/")[2]]


async def test_what_a_lost_transfer_left_is_compared_with_the_product(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    good, bad = FileFacts(size=SIZE, checksum="a"), FileFacts(size=1, checksum=None)
    reader = Reader(one=good, two=bad)
    async with bench(grid, database, tmp_path, reader, other=2) as here:
        job = await expecting(here, await admitted(here.store))
        checksum = "ADLER32:0000000a"
        listed = [ReportedFile(name=name, size=SIZE, checksum=checksum) for name in ("one", "two")]
        job = await taken(here, job, report(job, listed))
        job, _ = await started(here, job)
        (transfer,) = await open_transfers(here.store, job)
        await here.settlement.lost(job, transfer)
        job, _ = await copied(here, await here.now(job), lambda name: THERE)
        job = await here.compared(job)
        assert (job.status, job.error_class, job.files_done) == (Status.ERROR, "exists", 1)
        (failed,) = await files(here, job, FileState.FAILED)
        assert failed.name == "two"
        assert "it has 1 bytes, not 5" in (failed.reason or "")

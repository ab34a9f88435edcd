"""Calls about the files of jobs."""

from __future__ import annotations

from support.samples import REPORT, TURN, assigned, open_transfers, with_files

from deliv.model.file import FileListing, FileResult, FileState, ReportedFile
from deliv.model.transfer import Progress
from deliv.store import NOW
from integration.store_growth.world import Call, World, admitted, case


@case("add_files")
async def _(world: World) -> Call:
    job, listed = await admitted(world), [ReportedFile(name="a"), ReportedFile(name="b")]
    return lambda: world.store.add_files(job, REPORT, 1, listed, b"r" * 16)


@case("file_totals")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    return lambda: world.store.file_totals(job, REPORT)


@case("discard_files")
async def _(world: World) -> Call:
    job = await admitted(world)
    await world.store.add_files(job, REPORT, 1, [ReportedFile(name="a")], None)
    return lambda: world.store.discard_files(job.job_id, REPORT, 10)


@case("has_open_files")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    return lambda: world.store.has_open_files(job)


@case("assign")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    return lambda: assigned(world.store, job)


@case("assigned_files")
async def _(world: World) -> Call:
    job = await assigned(world.store, await with_files(world.store, await admitted(world), 3))
    return lambda: world.store.assigned_files(job, job.attempt, job.slice)


@case("open_transfers")
async def _(world: World) -> Call:
    job = await assigned(world.store, await with_files(world.store, await admitted(world), 3))
    return lambda: world.store.open_transfers([job])


@case("with_open_transfers")
async def _(world: World) -> Call:
    await assigned(world.store, await with_files(world.store, await admitted(world), 3))
    return lambda: world.store.with_open_transfers("fts1")


@case("see_progress")
async def _(world: World) -> Call:
    job = await assigned(world.store, await with_files(world.store, await admitted(world), 3))
    progress = {job.job_id: {(1, 0): Progress(active=1, ended=1, arrived=1)}}
    return lambda: world.store.see_progress(progress)


@case("give_turns")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    await world.store.update(job, turn_since=NOW)
    return lambda: world.store.give_turns(TURN)


@case("may_hand_over_more")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    job = await assigned(world.store, await assigned(world.store, job, 1), 1)
    (first, _) = await open_transfers(world.store, job)
    done = [FileResult(number=1, state=FileState.FINISHED)]
    job = await world.store.record(job, first, done, files_done=1)
    return lambda: world.store.may_hand_over_more(job)


@case("record")
async def _(world: World) -> Call:
    job = await assigned(world.store, await with_files(world.store, await admitted(world), 3))
    results = [FileResult(number=number, state=FileState.FINISHED) for number in (1, 2, 3)]
    (transfer,) = await open_transfers(world.store, job)
    return lambda: world.store.record(job, transfer, results, files_done=3, fts_jobid=None)


@case("file_groups")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    return lambda: world.store.file_groups(job)


@case("file")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    return lambda: world.store.file(job, 2)


@case("files_named")
async def _(world: World) -> Call:
    job = await world.store.job(await world.sample("jobs"))
    assert job is not None
    return lambda: world.store.files_named(job, ["1", "2"])


@case("files, of a state")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    listing = FileListing(state=FileState.WAITING, after=(0, 1), limit=2)
    return lambda: world.store.files(job, listing)


@case("files, archived")
async def _(world: World) -> Call:
    job = await world.store.job(await world.sample("jobs_archive"))
    assert job is not None
    return lambda: world.store.files(job, FileListing(limit=2))

"""Calls about stagings, of which most were given back."""

from __future__ import annotations

from msgspec.structs import replace
from support.samples import LIMITS, POPULAR, REPORT, submitted

from deliv.config import Bytes
from deliv.model.file import ReportedFile
from deliv.model.job import Job
from deliv.model.staging import SharedStaging, StagingState
from deliv.model.states import Event
from integration.store_growth.world import Call, World, admitted, admitted_itself, case
from integration.test_store_archive import DAY, held

NO_ROOM = replace(LIMITS.staging, bytes=Bytes(1))
FILE = [ReportedFile(name="a", size=1)]


async def entered(world: World) -> tuple[Job, SharedStaging]:
    """A job, and the staging of its product, which it has opened or joined."""
    return await world.store.enter_staging(await admitted(world), 60)


async def ended(world: World) -> Job:
    job, _ = await entered(world)
    return await world.store.apply(job, Event.CANCEL)


@case("enter_staging")
async def _(world: World) -> Call:
    await entered(world)
    job = await admitted(world)
    return lambda: world.store.enter_staging(job, 60)


@case("admit, one that joins, without room")
async def _(world: World) -> Call:
    await entered(world)
    await submitted(world.store)
    return lambda: world.store.admit(NO_ROOM)


@case("held_by, without room")
async def _(world: World) -> Call:
    await entered(world)
    job = await submitted(world.store)
    return lambda: world.store.held_by(replace(LIMITS, staging=NO_ROOM), [job, job])


@case("staging")
async def _(world: World) -> Call:
    _, staging = await entered(world)
    return lambda: world.store.staging(staging.staging_id)


@case("due_stagings")
async def _(world: World) -> Call:
    await entered(world)
    return lambda: world.store.due_stagings(100)


@case("claim_staging")
async def _(world: World) -> Call:
    _, staging = await entered(world)
    await world.store.update_staging(staging, delay=0)
    return lambda: world.store.claim_staging(staging.staging_id, 60)


@case("update_staging")
async def _(world: World) -> Call:
    _, staging = await entered(world)
    return lambda: world.store.update_staging(
        staging, delay=60, tell={"stager_status": "accepted"}, wake=True, code="ab" * 16
    )


@case("waiting_for")
async def _(world: World) -> Call:
    _, staging = await entered(world)
    return lambda: world.store.waiting_for(staging)


@case("leave_staging, as one of several")
async def _(world: World) -> Call:
    await entered(world)
    job = await ended(world)
    return lambda: world.store.leave_staging(job)


@case("leave_staging, as the last of very many")
async def _(world: World) -> Call:
    job = await admitted_itself(world, product_id=POPULAR)
    job, staging = await world.store.enter_staging(job, 60)
    assert staging.staging_id == POPULAR
    job = await world.store.apply(job, Event.CANCEL)
    return lambda: world.store.leave_staging(job)


@case("staging_given_back")
async def _(world: World) -> Call:
    _, staging = await entered(world)
    closed = await world.store.update_staging(staging, state=StagingState.RELEASING)
    return lambda: world.store.staging_given_back(closed)


@case("add_staging_files")
async def _(world: World) -> Call:
    _, staging = await entered(world)
    return lambda: world.store.add_staging_files(staging, REPORT, 1, FILE)


@case("staging_files")
async def _(world: World) -> Call:
    _, staging = await entered(world)
    staging = await world.store.update_staging(staging, report=REPORT)
    await world.store.add_staging_files(staging, b"s" * 16, 1, FILE)
    return lambda: world.store.staging_files(staging, 1, 100)


@case("discard_staging_files")
async def _(world: World) -> Call:
    _, staging = await entered(world)
    return lambda: world.store.discard_staging_files(staging.staging_id, None, 100)


@case("forget_stagings, nothing")
async def _(world: World) -> Call:
    fence = await held(world.store)
    return lambda: world.store.forget_stagings(fence, 1000 * DAY, 500)


@case("forget_stagings, some of many")
async def _(world: World) -> Call:
    fence = await held(world.store)
    return lambda: world.store.forget_stagings(fence, 1, 3)

"""Copies of jobs that rest: kept unless others need their space, and given back as good ones."""

from __future__ import annotations

from dataclasses import replace as replaced

import pytest
from msgspec.structs import replace
from support.samples import HOST, LIMITS

from deliv.db.database import Database
from deliv.delivery.patience import MOST_COPIES, Patience
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.store import Store
from integration.resting_jobs import RULES, at_fts, fails, reached
from integration.scripted_fts import Grid
from integration.test_stager_gateway import SETTINGS
from integration.test_staging_space import SIZE, room_for
from integration.test_stagings import USERS, World, opened

pytestmark = pytest.mark.usefixtures("counted")

ELSEWHERE = {"destination_path": "gsiftp://other.example.org/data", "destination_host": "other"}


def patience(world: World, copies: int) -> Patience:
    settings = replace(SETTINGS, limits=replace(SETTINGS.limits, staging=room_for(copies)))
    return Patience(world.store, world.stager, world.failures, settings)


async def rested(world: World, database: Database, count: int) -> list[Job]:
    """Jobs whose products are staged, and whose destination rests since the first one failed."""
    await reached(database)
    jobs = []
    for number in range(count):
        product = f"product-{number}"
        job = await world.step(await world.admitted(product_id=product))
        await world.report(job.job_id, product_id=product, size=SIZE)
        jobs.append(await world.step(job))
    failed = await at_fts(world.store, jobs[0])
    await fails(world.store, failed, rules=replaced(RULES, after=1))
    for job in jobs[1:]:
        assert await patience(world, count).released(job) is None
    return [await world.now(job) for job in jobs]


async def phases(world: World, jobs: list[Job]) -> set[Phase]:
    return {phase(await world.now(job)) for job in jobs}


async def test_copies_that_rest_make_room_for_who_waits_for_it(
    grid: Grid, store: Store, database: Database
) -> None:
    async with opened(grid, store) as world:
        jobs = await rested(world, database, 3)
        waits = await world.queued(USERS[1], product_id="another", **ELSEWHERE)
        assert await store.admit(room_for(3)) is None
        await patience(world, 3).keep_trying()
        assert await phases(world, jobs) == {Phase.ASKING_STAGER}
        for job in jobs:
            assert await patience(world, 3).released(await world.now(job)) is None
        assert await phases(world, jobs) == {Phase.QUEUED}
        await world.sweep()
        admitted = await store.admit(room_for(3))
        assert admitted is not None
        assert admitted.job_id == waits.job_id
        assert [what for what, _ in world.calls] == ["stage"] * 3 + ["release"] * 3


async def test_copies_of_jobs_that_count_no_more_are_no_place_for_others(
    grid: Grid, store: Store, database: Database
) -> None:
    """FTS has had the first one."""
    async with opened(grid, store) as world:
        first, *others = await rested(world, database, 3)
        await world.queued(USERS[1], product_id="another", **ELSEWHERE)
        caps = replace(LIMITS.staging, in_flight=2)
        settings = replace(SETTINGS, limits=replace(SETTINGS.limits, staging=caps))
        await Patience(store, world.stager, world.failures, settings).keep_trying()
        assert await phases(world, [first]) == {Phase.STAGED}
        assert await phases(world, others) == {Phase.ASKING_STAGER}


async def test_those_submitted_last_make_room_first(
    grid: Grid, store: Store, database: Database
) -> None:
    async with opened(grid, store) as world:
        jobs = await rested(world, database, MOST_COPIES + 2)
        await world.queued(USERS[1], product_id="another", **ELSEWHERE)
        await patience(world, len(jobs)).keep_trying()
        assert await phases(world, jobs[:2]) == {Phase.STAGED}
        assert await phases(world, jobs[2:]) == {Phase.ASKING_STAGER}


@pytest.mark.parametrize(
    "waits",
    [
        pytest.param(None, id="none"),
        pytest.param({"destination_path": f"gsiftp://{HOST}/data"}, id="for the same server"),
        pytest.param({**ELSEWHERE, "product_id": "product-0"}, id="for a copy to join"),
    ],
)
async def test_copies_are_kept_where_none_waits_for_their_space(
    grid: Grid, store: Store, database: Database, waits: dict[str, str] | None
) -> None:
    async with opened(grid, store) as world:
        jobs = await rested(world, database, 3)
        if waits is not None:
            await world.queued(USERS[1], **waits)
        while await store.admit(room_for(4)):  # those that rest are marked
            pass
        await patience(world, 3).keep_trying()
        assert await phases(world, jobs) == {Phase.STAGED}


async def test_copies_are_kept_while_there_is_room(
    grid: Grid, store: Store, database: Database
) -> None:
    async with opened(grid, store) as world:
        jobs = await rested(world, database, 3)
        await world.queued(USERS[1], product_id="another", **ELSEWHERE)
        await patience(world, 4).keep_trying()
        assert await phases(world, jobs) == {Phase.STAGED}


async def test_a_copy_that_one_job_gives_back_is_joined_while_another_has_it(
    grid: Grid, store: Store, database: Database
) -> None:
    async with opened(grid, store) as world:
        (rests,) = await rested(world, database, 1)
        product = {"product_id": rests.product_id, **ELSEWHERE}
        reads = await world.step(await world.admitted(USERS[1], **product))
        await world.queued(USERS[2], product_id="another", **ELSEWHERE)
        await patience(world, 1).keep_trying()
        assert (await world.now(rests)).staging_id is None
        await world.sweep()
        late = await world.step(await world.admitted(USERS[3], **product))
        assert late.staging_id == reads.staging_id == rests.staging_id
        assert world.calls == [("stage", rests.staging_id)]

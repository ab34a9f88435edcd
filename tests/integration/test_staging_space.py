"""The space that stagings take: once for all their jobs, until the stager has them back."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from msgspec.structs import replace
from support.samples import LIMITS, submitted

from deliv.config import Bytes, StagingLimits
from deliv.model.file import ReportedFile
from deliv.model.phase import Phase, phase
from deliv.model.states import FINAL, Event
from deliv.store import Store
from deliv.store.staging_area import StagingArea
from integration.scripted_fts import Grid
from integration.test_stagings import USERS, many, opened, restaged

pytestmark = pytest.mark.usefixtures("counted")

SIZE = 1000


def room_for(copies: int) -> StagingLimits:
    size = Bytes(SIZE)
    return replace(LIMITS.staging, bytes=Bytes(copies * SIZE), bytes_per_product=size)


async def taken(store: Store) -> tuple[int, int, int]:
    area: StagingArea = await store.staging_area()
    return area.copies, area.sized, area.bytes


@pytest.mark.parametrize(("second", "expected"), [(2, (1, 1, 7)), (None, (1, 0, 0))])
async def test_a_product_of_many_files_takes_what_all_of_them_have(
    grid: Grid, store: Store, second: int | None, expected: tuple[int, int, int]
) -> None:
    """It is of unknown size where that of a file is not reported."""
    async with opened(grid, store) as world:
        jobs = [await world.admitted(user) for user in USERS]
        await world.steps(jobs)
        files = [ReportedFile(name="a", size=5), ReportedFile(name="b", size=second)]
        await world.report(jobs[0].job_id, files=files)
        assert await taken(store) == expected
        assert {phase(job) for job in await world.steps(jobs)} == {Phase.STAGED}
        assert await taken(store) == expected


async def test_two_copies_are_counted_while_a_corrupt_one_is_staged_again(
    grid: Grid, store: Store
) -> None:
    async with opened(grid, store) as world:
        jobs = await many(world)
        await world.report(jobs[0].job_id, size=SIZE)
        jobs = await world.steps(jobs)
        assert await taken(store) == (1, 1, SIZE)
        again = [await world.step(await restaged(world, job)) for job in jobs]
        assert await taken(store) == (2, 1, SIZE)
        await world.sweep()
        assert await taken(store) == (1, 0, 0)
        for job in again:
            await world.end(job, Event.CANCEL)
        assert await taken(store) == (0, 0, 0)


async def test_what_fails_takes_space_until_it_is_given_back(grid: Grid, store: Store) -> None:
    async with opened(grid, store) as world:
        jobs = await many(world)
        await world.report(jobs[0].job_id, success=False, msg="the tape can't be read")
        jobs = await world.steps(jobs)
        assert await taken(store) == (1, 0, 0)
        await world.steps(jobs)
        assert await taken(store) == (0, 0, 0)


async def test_a_job_that_is_back_in_the_queue_takes_none(grid: Grid, store: Store) -> None:
    """Its staging does, until the stager has it back."""
    async with opened(grid, store) as world:
        job = await world.step(await world.admitted())
        queued = await store.apply(job, Event.REQUEUE, stager_accepted=None)
        assert queued.staging_id is None
        assert await taken(store) == (1, 0, 0)
        await world.sweep()
        assert await taken(store) == (0, 0, 0)


async def test_a_job_of_the_release_before_takes_space_alone(grid: Grid, store: Store) -> None:
    async with opened(grid, store) as world:
        await world.step(await world.admitted())
        alone = await world.admitted(USERS[1])
        assert await taken(store) == (1, 0, 0)  # it has joined
        alone = await store.update(alone, stager_callback="ab" * 16)
        assert await taken(store) == (2, 0, 0)
        alone = await store.apply(alone, Event.STAGED, product_size=SIZE)
        assert await taken(store) == (2, 1, SIZE)
        await world.end(alone, Event.CANCEL)
        assert await taken(store) == (1, 0, 0)


async def test_users_in_step_have_each_product_read_once_when_space_is_scarce(
    grid: Grid, store: Store
) -> None:
    """Four have submitted the same campaign, and there is room for one product."""
    async with opened(grid, store) as world:
        products = [f"product-{number}" for number in range(5)]
        jobs = [
            await submitted(store, submitter=user, product_id=product)
            for user in USERS
            for product in products
        ]
        while any([(await world.now(job)).status not in FINAL for job in jobs]):
            going = []
            while job := await store.admit(room_for(1)):
                going.append(await world.step(job))
            assert (await store.staging_area()).copies == 1
            (staging_id,) = {job.staging_id for job in going}
            assert staging_id is not None
            product = going[0].product_id
            await world.report(staging_id, product_id=product, size=SIZE)
            for job in await world.steps(going):
                assert phase(await world.end(job)) is Phase.CLOSED
        assert Counter(what for what, _ in world.calls) == {"stage": 5, "release": 5}


async def test_counts_are_right_behind_many_at_once(grid: Grid, store: Store) -> None:
    """Stagings that are opened, joined, reported and left at the same time."""
    async with opened(grid, store) as world:
        jobs = [
            await world.admitted(USERS[number % 4], product_id=f"product-{number % 8}")
            for number in range(40)
        ]
        jobs = await asyncio.gather(*(world.step(job) for job in jobs))
        assert (await store.staging_area()).copies == 8
        first = {job.staging_id: job for job in jobs}
        await asyncio.gather(
            *(
                world.report(staging_id or "", product_id=job.product_id, size=SIZE)
                for staging_id, job in first.items()
            )
        )
        assert await taken(store) == (8, 8, 8 * SIZE)
        jobs = await asyncio.gather(*(world.step(job) for job in jobs))
        await asyncio.gather(*(world.end(job, Event.CANCEL) for job in jobs))
        await world.sweep()
        assert await taken(store) == (0, 0, 0)

"""The space in front of the tapes: nothing is asked for that there is no room for."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from support.samples import ALICE, BOB, LIMITS, submitted

from deliv.config import Bytes, StagingLimits
from deliv.model.job import Job
from deliv.model.states import Event
from deliv.store import NOW, Store, staging_area

MB = 1_000_000


def limits(space: int, guess: int = MB) -> StagingLimits:
    return replace(LIMITS.staging, bytes=Bytes(space), bytes_per_product=Bytes(guess))


async def admit_all(store: Store, caps: StagingLimits) -> list[Job]:
    jobs = []
    while job := await store.admit(caps):
        jobs.append(job)
    return jobs


async def reported(store: Store, job: Job, size: int | None) -> Job:
    return await store.apply(job, Event.STAGED, time_staged=NOW, product_size=size)


async def given_back(store: Store, job: Job, event: Event = Event.CANCEL) -> Job:
    job = await store.apply(job, event)
    return await store.update(job, delay=None, time_released=NOW)


async def waiting(store: Store, count: int, **changes: Any) -> list[Job]:
    return [await submitted(store, **changes) for _ in range(count)]


async def test_no_more_is_asked_for_than_there_is_room_for(store: Store) -> None:
    *_, last = await waiting(store, 4)
    caps = limits(3 * MB)
    first, *_ = await admit_all(store, caps)
    assert len(await admit_all(store, caps)) == 0
    assert await store.held_by(replace(LIMITS, staging=caps), last) == staging_area.FULL
    await given_back(store, first)
    assert await store.held_by(replace(LIMITS, staging=caps), last) is None
    assert [job.job_id for job in await admit_all(store, caps)] == [last.job_id]


async def test_a_copy_takes_its_space_until_it_is_given_back(store: Store) -> None:
    await waiting(store, 2)
    caps = limits(MB)
    (job,) = await admit_all(store, caps)
    job = await reported(store, job, MB)
    assert await admit_all(store, caps) == []
    job = await store.apply(job, Event.TRANSFER)
    assert await admit_all(store, caps) == []
    job = await store.apply(job, Event.DELIVER)
    assert await admit_all(store, caps) == []
    await store.update(job, delay=None, time_released=NOW)
    assert len(await admit_all(store, caps)) == 1


async def test_a_report_corrects_what_was_expected(store: Store) -> None:
    await waiting(store, 10)
    caps = limits(10 * MB, guess=5 * MB)
    jobs = await admit_all(store, caps)
    assert len(jobs) == 2
    for job in jobs:
        await reported(store, job, MB)
    assert len(await admit_all(store, caps)) == 1  # of 8 MB that are free


async def test_larger_ones_than_expected_are_what_is_expected_then(store: Store) -> None:
    await waiting(store, 20)
    caps = limits(10 * MB)
    first, *others = await admit_all(store, caps)
    assert len(others) == 9
    await reported(store, first, 3 * MB)  # and so the others are taken for as large
    for job in others[:8]:
        await given_back(store, job)
    assert len(await admit_all(store, caps)) == 1


async def test_of_unknown_size_even_when_it_is_reported(store: Store) -> None:
    await waiting(store, 2)
    caps = limits(MB)
    (job,) = await admit_all(store, caps)
    await reported(store, job, None)
    assert await admit_all(store, caps) == []


async def test_a_product_larger_than_all_the_space_goes_alone(store: Store) -> None:
    await waiting(store, 2)
    caps = limits(MB, guess=5 * MB)
    (job,) = await admit_all(store, caps)
    job = await reported(store, job, 7 * MB)
    assert await admit_all(store, caps) == []
    await given_back(store, job)
    assert len(await admit_all(store, caps)) == 1


async def test_what_is_staged_again_keeps_its_space_and_waits_for_none(store: Store) -> None:
    await waiting(store, 3)
    caps = limits(2 * MB)
    first, second = await admit_all(store, caps)
    for job in (first, second):
        job = await reported(store, job, MB)
        job = await store.apply(job, Event.TRANSFER)
        await store.apply(job, Event.RESTAGE, attempt=2, product_size=job.product_size)
    area = await store.staging_area()
    assert (area.asked, area.held, area.bytes) == (2, 2, 2 * MB)
    assert await admit_all(store, caps) == []


async def test_who_holds_less_of_it_is_next(store: Store) -> None:
    """Also where the copies of the other one have gone on to FTS."""
    await waiting(store, 6, submitter=ALICE)
    caps = limits(4 * MB)
    jobs = await admit_all(store, caps)
    for job in jobs:
        await store.apply(await reported(store, job, MB), Event.TRANSFER)
    late = await waiting(store, 2, submitter=BOB)
    for job in jobs[:2]:
        found = await store.job(job.job_id)
        assert found is not None
        await given_back(store, found, Event.DELIVER)
    assert [job.job_id for job in await admit_all(store, caps)] == [job.job_id for job in late]


async def test_without_a_limit_there_is_always_room(store: Store) -> None:
    await waiting(store, 3)
    jobs = await admit_all(store, LIMITS.staging)
    await reported(store, jobs[0], 10**18)
    assert len(await admit_all(store, LIMITS.staging)) == 0
    assert len(jobs) == 3
    assert (await store.staging_area()).has_room(LIMITS.staging)

"""The space in front of the tapes: nothing is asked for that there is no room for."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from support.private_mariadb import Server
from support.samples import ALICE, BOB, LIMITS, fill, holds, submitted

from deliv.config import Bytes, StagingLimits
from deliv.db.database import Database
from deliv.model.job import Job
from deliv.model.rest import RestRules
from deliv.model.staging import SharedStaging, StagingState
from deliv.model.states import Event
from deliv.store import NOW, Store, admission, staging_area
from integration.rows_read import rows_read

pytestmark = pytest.mark.usefixtures("counted")

MB = 1_000_000
USERS = [f"/CN=user{number}" for number in range(4)]


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
    assert await holds(store, replace(LIMITS, staging=caps), last) == staging_area.FULL
    await given_back(store, first)
    assert await holds(store, replace(LIMITS, staging=caps), last) is None
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


async def entered(store: Store, job: Job) -> SharedStaging:
    _, staging = await store.enter_staging(job, 3600)
    return staging


async def work(store: Store, caps: StagingLimits) -> list[Job]:
    """Admit all that may be, each of which enters a staging at once."""
    jobs = []
    while job := await store.admit(caps):
        await entered(store, job)
        jobs.append(job)
    return jobs


async def test_jobs_that_share_a_staging_take_its_space_once(store: Store) -> None:
    """Twenty of four users leave the room that there is for another product, and for no third."""
    shared = [await submitted(store, submitter=USERS[number % 4]) for number in range(20)]
    others = [await submitted(store, submitter=USERS[0], product_id=name) for name in "ab"]
    caps = limits(2 * MB)
    asked = {job.job_id for job in await work(store, caps)}
    assert asked == {job.job_id for job in [*shared, others[0]]}
    area = await store.staging_area()
    assert (area.copies, area.held, area.has_room(caps)) == (2, 21, False)


async def test_jobs_that_are_admitted_before_a_staging_is_open_take_space_each(
    store: Store,
) -> None:
    await waiting(store, 3)
    first, second = await admit_all(store, limits(2 * MB))
    assert (await store.staging_area()).copies == 2
    await entered(store, first)
    await entered(store, second)
    assert (await store.staging_area()).copies == 1


async def test_a_staging_takes_its_space_until_it_is_given_back(store: Store) -> None:
    """Also when none of its jobs is there any more."""
    await waiting(store, 1)
    await waiting(store, 1, product_id="another")
    caps = limits(MB)
    (job,) = await work(store, caps)
    staging = await store.staging(job.job_id)
    assert staging is not None
    staging = await store.update_staging(staging, state=StagingState.STAGED, size=MB // 2)
    area = await store.staging_area()
    assert (area.copies, area.sized, area.bytes) == (1, 1, MB // 2)
    now = await store.job(job.job_id)
    assert now is not None
    await given_back(store, now)
    assert await work(store, caps) == []
    staging = await store.staging(job.job_id)
    assert staging is not None
    staging = await store.update_staging(staging, state=StagingState.RELEASING)
    assert await work(store, caps) == []
    await store.staging_given_back(staging)
    assert len(await work(store, caps)) == 1


async def test_joining_needs_no_space(store: Store) -> None:
    """The one at the head of a line, to each host; and none behind one that needs space."""
    await submitted(store)
    caps, all_caps = limits(MB), replace(LIMITS, staging=limits(MB))
    (first,) = await work(store, caps)
    behind = [
        await submitted(store, submitter=BOB, product_id=name) for name in ("a", "1234567890")
    ]
    elsewhere = await submitted(store, submitter=BOB, destination_host="elsewhere")
    assert await holds(store, all_caps, behind[0]) == staging_area.FULL
    assert await holds(store, all_caps, behind[1]) == staging_area.FULL
    assert await holds(store, all_caps, elsewhere) is None
    (joined,) = await admit_all(store, caps)
    assert (joined.job_id, joined.staging_id) == (elsewhere.job_id, first.job_id)
    assert (await store.staging_area()).copies == 1


async def test_joining_needs_a_place_among_the_jobs(store: Store) -> None:
    await waiting(store, 2)
    caps = replace(limits(MB), per_submitter=1)
    await work(store, caps)
    assert await store.admit(caps) is None
    assert await store.admit(replace(limits(MB), in_flight=1)) is None


async def test_a_staging_that_is_being_joined_is_not_given_back(store: Store) -> None:
    """Its last job leaves it between the admission of another and the work for that."""
    await submitted(store)
    caps = limits(MB)
    (first,) = await work(store, caps)
    joined = await submitted(store, submitter=BOB)
    assert await store.admit(caps) is not None
    now = await store.job(first.job_id)
    assert now is not None
    left, nothing = await store.leave_staging(await store.apply(now, Event.CANCEL))
    assert nothing is None
    assert left.time_released is not None
    now = await store.job(joined.job_id)
    assert now is not None
    assert (await entered(store, now)).staging_id == first.job_id


async def test_what_is_being_given_back_is_not_joined(store: Store) -> None:
    await submitted(store)
    caps = limits(MB)
    (first,) = await work(store, caps)
    now = await store.job(first.job_id)
    assert now is not None
    _, staging = await store.leave_staging(await store.apply(now, Event.CANCEL))
    assert staging is not None
    late = await submitted(store, submitter=BOB)
    assert await store.admit(caps) is None
    assert await holds(store, replace(LIMITS, staging=caps), late) == staging_area.FULL


async def test_a_full_area_does_not_make_admissions_costly(
    database: Database, migrated: Server
) -> None:
    """Of a crowd, and of one submitter's many hosts, only some are looked at, and one job each."""
    store, caps = Store(database), limits(MB)
    await submitted(store, product_id="open")
    await work(store, caps)

    async def read() -> int:
        return await rows_read(database, lambda tx: [admission.admit(tx, caps, RestRules())])

    fill(migrated, ALICE, 2_000)
    few = await read()
    migrated.run(
        "UPDATE jobs SET destination_host = CONCAT('h', product_id) WHERE status = 'SUBMITTED'"
    )
    assert await read() < few + 20 * admission.JOINERS
    for number in range(100):
        fill(migrated, f"/CN={number}", 3)
    assert await read() < few + 20 * admission.JOINERS + 10 * 100

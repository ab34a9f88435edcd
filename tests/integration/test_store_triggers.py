"""What the database promises by itself, whatever the code does."""

from __future__ import annotations

from datetime import datetime

import pytest
from samples import admitted, staged, submitted, transferring

from deliv.db import Database, Rejected
from deliv.model import Job
from deliv.states import FINAL, IN_FLIGHT, Event, Status
from deliv.store import NOW, Store

ENDS = {Status.SUCCESS: Event.DELIVER, Status.ERROR: Event.FAIL, Status.CANCELLED: Event.CANCEL}
STATUSES = [str(status) for status in Status]


def times(job: Job) -> dict[str, datetime]:
    """The times that are set, the earliest first."""
    names = [name for name in job.__dataclass_fields__ if name.startswith("time_")]
    found = {name: value for name in names if (value := getattr(job, name)) is not None}
    return dict(sorted(found.items(), key=lambda item: item[1]))


async def history(store: Store, job: Job) -> list[tuple[str, int, bool]]:
    events = await store.events(job.job_id)
    return [(event.status, event.attempt, event.staged) for event in events]


async def ended(store: Store, status: Status) -> Job:
    return await store.apply(await transferring(store), ENDS[status])


async def test_each_step_of_a_delivery_has_its_time_and_event(store: Store) -> None:
    job = await ended(store, Status.SUCCESS)
    steps = ["submitted", "staging", "staged", "transferring", "success"]
    assert list(times(job)) == [f"time_{step}" for step in steps]
    assert await history(store, job) == [
        ("SUBMITTED", 1, False),
        ("STAGING", 1, False),
        ("STAGING", 1, True),
        ("TRANSFERRING", 1, True),
        ("SUCCESS", 1, True),
    ]
    assert [event.time for event in await store.events(job.job_id)] == list(times(job).values())


@pytest.mark.parametrize("status", sorted(FINAL))
async def test_the_end_has_its_time(store: Store, status: Status) -> None:
    job = await ended(store, status)
    assert list(times(job))[-1] == f"time_{status.lower()}"


async def test_an_event_keeps_what_was_said_then(store: Store) -> None:
    job = await admitted(store)
    await store.apply(job, Event.FAIL, error_class="stager", detailed_status="no such product")
    event = (await store.events(job.job_id))[-1]
    assert (event.error_class, event.detailed_status) == ("stager", "no such product")
    assert event.submitter == job.submitter


async def test_staging_again_starts_its_times_again(store: Store) -> None:
    first = await transferring(store)
    again = await store.apply(first, Event.RESTAGE, attempt=2)
    assert list(times(again)) == ["time_submitted", "time_staging"]
    assert again.time_staging is not None
    assert first.time_transferring is not None
    assert again.time_staging > first.time_transferring
    third = await store.apply(again, Event.RESTAGE, attempt=3)
    assert third.time_staging is not None
    assert third.time_staging > again.time_staging
    assert (await history(store, third))[-2:] == [("STAGING", 2, False), ("STAGING", 3, False)]


async def test_transferring_again_keeps_the_staged_copy(store: Store) -> None:
    first = await transferring(store)
    again = await store.apply(first, Event.RETRANSFER, attempt=2)
    assert again.time_staged == first.time_staged
    assert first.time_transferring is not None
    assert again.time_transferring is not None
    assert again.time_transferring > first.time_transferring
    assert (await history(store, again))[-1] == ("TRANSFERRING", 2, True)


async def test_a_change_of_no_step_leaves_no_event(store: Store) -> None:
    job = await staged(store)
    before = await history(store, job)
    job = await store.update(job, time_staged=NOW, stager_status="copied", delay=5)
    assert await history(store, job) == before


@pytest.mark.parametrize("status", sorted(FINAL))
@pytest.mark.parametrize("to", STATUSES)
async def test_nothing_leaves_a_final_state(
    store: Store, database: Database, status: Status, to: str
) -> None:
    job = await ended(store, status)
    sql = "UPDATE jobs SET status = %s, attempt = attempt + 1 WHERE job_id = %s"
    with pytest.raises(Rejected, match="never leaves a final state"):
        await database.execute(sql, to, job.job_id)
    assert await store.job(job.job_id) == job


async def test_a_final_job_can_still_be_released(store: Store) -> None:
    job = await ended(store, Status.ERROR)
    released = await store.update(job, time_released=NOW, delay=None)
    assert released.time_released is not None
    assert released.due_at is None


@pytest.mark.parametrize("status", sorted(FINAL))
async def test_a_final_job_gives_its_destination_free(store: Store, status: Status) -> None:
    job = await store.update(await transferring(store), destination_key=b"k" * 32)
    assert (await store.apply(job, ENDS[status])).destination_key is None


@pytest.mark.parametrize("column", ["job_id", "submitter", "product_id", "destination_path"])
@pytest.mark.parametrize("value", ["REVERSE({})", "UPPER({})", "'other'"])
async def test_what_was_asked_for_never_changes(
    store: Store, database: Database, column: str, value: str
) -> None:
    job = await submitted(store, product_id="abc")
    sql = f"UPDATE jobs SET {column} = {value.format(column)} WHERE job_id = %s"  # noqa: S608
    with pytest.raises(Rejected, match="never change"):
        await database.execute(sql, job.job_id)
    assert await store.job(job.job_id) == job


async def test_a_trailing_space_is_a_difference(store: Store, database: Database) -> None:
    job = await submitted(store)
    found = await database.query("SELECT * FROM jobs WHERE submitter = %s", job.submitter + " ")
    assert found == []
    with pytest.raises(Rejected, match="never change"):
        await database.execute("UPDATE jobs SET product_id = CONCAT(product_id, ' ')")


async def test_the_time_of_submission_never_changes(store: Store, database: Database) -> None:
    job = await submitted(store)
    await database.execute("UPDATE jobs SET time_submitted = NOW(6), version = 9")
    changed = await store.job(job.job_id)
    assert changed is not None
    assert changed.time_submitted == job.time_submitted


@pytest.mark.parametrize("status", sorted(IN_FLIGHT))
async def test_no_job_goes_back_to_waiting(
    store: Store, database: Database, status: Status
) -> None:
    await (admitted if status is Status.STAGING else transferring)(store)
    with pytest.raises(Rejected, match="does not go back"):
        await database.execute("UPDATE jobs SET status = 'SUBMITTED'")


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "SUBMITTED"])
async def test_every_job_begins_as_submitted(database: Database, status: str) -> None:
    sql = """
    INSERT INTO jobs (job_id, product_id, status, destination_path, destination_host, submitter)
    VALUES ('a', 'b', %s, 'c', 'd', 'e')
    """
    with pytest.raises(Rejected, match="begins as SUBMITTED"):
        await database.execute(sql, status)


async def test_a_refused_change_leaves_no_event(store: Store, database: Database) -> None:
    job = await ended(store, Status.SUCCESS)
    before = await history(store, job)
    with pytest.raises(Rejected):
        await database.execute("UPDATE jobs SET status = 'ERROR'")
    assert await history(store, job) == before

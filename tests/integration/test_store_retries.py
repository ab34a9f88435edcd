"""A job that ended in ERROR is repeated once, whoever asks for it at once, archived jobs too."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from support.private_mariadb import Server
from support.samples import LABEL, submission, submitted

from deliv.db.database import Database, RejectedByTrigger
from deliv.errors import DelivError, InvalidRequest
from deliv.model.job import Job
from deliv.model.states import Event, Status
from deliv.store import Store, archive
from deliv.store.submissions import Outcome
from integration.test_store_archive import DAY, ended, held


async def failed(store: Store, **changes: object) -> Job:
    return await store.apply(await submitted(store, **changes), Event.FAIL, delay=None)


async def repeated(store: Store, job: Job) -> Job:
    return await submitted(store, retry_of=job.job_id)


def jobs_of(outcomes: list[Outcome]) -> list[tuple[str, bool]]:
    assert not any(isinstance(one, DelivError) for one in outcomes), outcomes
    return [(one[0].job_id, one[1]) for one in outcomes if not isinstance(one, DelivError)]


async def test_a_repetition_names_what_it_repeats(store: Store) -> None:
    first = await failed(store)
    second = await repeated(store, first)
    assert (first.retry_of, second.retry_of) == (None, first.job_id)
    assert await store.job(second.job_id) == second
    assert await store.retries_of([first.job_id, second.job_id]) == {first.job_id: second}
    assert await store.retries_of([]) == {}


async def test_of_those_that_it_repeats_the_ones_that_fts_had_count(
    store: Store, migrated: Server
) -> None:
    copied = await ended(store, migrated, 40, Status.ERROR)
    never = await failed(store, retry_of=copied.job_id)
    last = await repeated(store, never)
    found = [await store.copied_before(job) for job in (last, never, copied)]
    assert found == [[copied], [copied], []]
    await store.archive(await held(store), 30 * DAY, 100)
    assert await store.copied_before(last) == [copied]


async def test_none_is_repeated_twice(store: Store) -> None:
    first, other = [await failed(store) for _ in range(2)]
    second = await repeated(store, first)
    wanted = [submission(retry_of=first.job_id, quota=2), submission(retry_of=other.job_id)]
    assert jobs_of(await store.submit_many(wanted)) == [
        (second.job_id, False), (wanted[1].job_id, True),
    ]  # fmt: skip
    assert (await store.counts())[Status.SUBMITTED] == 2


async def test_callers_at_once_repeat_each_once(store: Store) -> None:
    """In another order each, so that one waits for the other's jobs and is waited for."""
    jobs = [await failed(store) for _ in range(30)]
    answers = await asyncio.gather(
        *(
            store.submit_many([submission(retry_of=job.job_id) for job in order])
            for order in (jobs, jobs[::-1], [*jobs[15:], *jobs[:15]])
            for _ in range(2)
        )
    )
    found = [jobs_of(outcomes) for outcomes in answers]
    assert sum(created for outcomes in found for _, created in outcomes) == len(jobs)
    assert len({frozenset(job_id for job_id, _ in outcomes) for outcomes in found}) == 1
    assert (await store.counts())[Status.SUBMITTED] == len(jobs)


async def test_a_deadline_that_is_over_may_lapse(store: Store) -> None:
    over, ahead = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    kept, lapsed, refused = await store.submit_many(
        [
            submission(deadline=ahead, deadline_lapses=True),
            submission(deadline=over, deadline_lapses=True),
            submission(deadline=over),
        ]
    )
    assert not isinstance(kept, DelivError)
    assert not isinstance(lapsed, DelivError)
    assert (kept[0].deadline, lapsed[0].deadline) == (ahead, None)
    assert await store.job(lapsed[0].job_id) == lapsed[0]
    assert isinstance(refused, InvalidRequest)


async def test_an_archived_repetition_counts(store: Store, migrated: Server) -> None:
    first = await ended(store, migrated, 42, Status.ERROR)
    second = await ended(store, migrated, 40, Status.ERROR, retry_of=first.job_id)
    assert await store.archive(await held(store), 30 * DAY, 100) == 2
    assert await store.retries_of([first.job_id]) == {first.job_id: second}
    again = await store.submit(submission(retry_of=first.job_id))
    assert again == (second, False)
    third = await repeated(store, second)
    assert await store.retries_of([first.job_id, second.job_id, third.job_id]) == {
        first.job_id: second, second.job_id: third,
    }  # fmt: skip


async def test_several_are_read_at_once_archived_ones_too(store: Store, migrated: Server) -> None:
    old = await ended(store, migrated, 40, Status.ERROR)
    await store.archive(await held(store), 30 * DAY, 100)
    new = await submitted(store)
    asked = [new.job_id, old.job_id, "0190a5b0-0000-7000-8000-000000000000"]
    assert await store.several(asked) == {old.job_id: old, new.job_id: new}
    assert await store.several([]) == {}


async def test_the_release_before_archives_a_repetition_without_knowing_it(
    store: Store, migrated: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await ended(store, migrated, 42, Status.ERROR)
    second = await ended(store, migrated, 40, retry_of=first.job_id)
    without = tuple(sql.replace("retry_of, ", "") for sql in archive.MOVING)
    assert without != archive.MOVING
    assert not any("retry_of" in sql for sql in without)
    monkeypatch.setattr(archive, "MOVING", without)
    await store.archive(await held(store), 30 * DAY, 100)
    assert await store.retries_of([first.job_id]) == {first.job_id: second}


async def test_what_a_job_repeats_never_changes(store: Store, database: Database) -> None:
    job = await failed(store, label=LABEL)
    await repeated(store, job)
    for value in ("NULL", "'other'"):
        with pytest.raises(RejectedByTrigger, match="repeats"):
            sql = f"UPDATE jobs SET retry_of = {value} WHERE retry_of IS NOT NULL"  # noqa: S608
            await database.execute(sql)

"""Jobs through the store, on a real MariaDB and with the service's own account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from support.private_mariadb import Server
from support.samples import (
    ALICE,
    BOB,
    LIMITS,
    admitted,
    fill,
    staged,
    submission,
    submitted,
    transferring,
)

from deliv.db.database import Connection, Database, Row
from deliv.errors import DestinationBusy, IllegalTransition, KeyReused, LostRace, QuotaExceeded
from deliv.model.job import Job
from deliv.model.states import Event, Status
from deliv.store import NOW, Store, jobs

KEY = b"\x01" * 32


async def routings(store: Store) -> list[str]:
    return [row.routing for row in await store.outbox_take(100, 0)]


async def test_a_submission_becomes_a_job_that_is_due_and_told(store: Store) -> None:
    calls = []
    store.on_outbox = lambda: calls.append(True)
    request = submission(product_id="Ünïcode \N{TELESCOPE} 'quoted' \\ %s")
    job, created = await store.submit(request)
    assert created
    assert job == await store.job(request.job_id)
    assert (job.product_id, job.status, job.attempt) == (request.product_id, "SUBMITTED", 1)
    assert job.due_at == job.time_submitted
    assert abs(job.time_submitted - datetime.now(UTC)) < timedelta(seconds=10)
    assert await routings(store) == ["stage", "event"]
    assert calls == [True]


@pytest.mark.parametrize("job_id", ["0190a5b0-0000-7000-8000-000000000000", "", "é\n"])
async def test_an_unknown_job_is_none(store: Store, job_id: str) -> None:
    assert await store.job(job_id) is None


async def test_the_same_key_and_request_give_the_same_job(store: Store) -> None:
    first, created = await store.submit(submission(idempotency_key="k"))
    second, again = await store.submit(submission(idempotency_key="k"))
    assert (created, again) == (True, False)
    assert second == first
    assert await routings(store) == ["stage", "event"]


@pytest.mark.parametrize(
    "changes", [{"product_id": "other"}, {"destination_path": "gsiftp://user.example.org/other"}]
)
async def test_a_key_with_another_request_is_refused(store: Store, changes: dict[str, str]) -> None:
    await store.submit(submission(idempotency_key="k"))
    with pytest.raises(KeyReused):
        await store.submit(submission(idempotency_key="k", **changes))
    assert (await store.counts())[Status.SUBMITTED] == 1


async def test_a_quota_counts_unfinished_jobs_and_refuses_the_next(store: Store) -> None:
    first = await submitted(store, quota=1, idempotency_key="k")
    with pytest.raises(QuotaExceeded, match="1 unfinished"):
        await store.submit(submission(quota=1))
    assert sum((await store.counts()).values()) == 1
    assert (await store.submit(submission(quota=1, idempotency_key="k")))[0] == first
    await submitted(store, submitter=BOB, quota=1)
    await store.apply(first, Event.CANCEL, delay=None)
    await submitted(store, quota=1)


async def test_a_quota_holds_for_submissions_of_the_same_moment(store: Store) -> None:
    requests = [store.submit(submission(quota=3)) for _ in range(20)]
    answers = await asyncio.gather(*requests, return_exceptions=True)
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 17, answers
    assert (await store.counts())[Status.SUBMITTED] == 3


async def test_keys_of_two_submitters_are_apart(store: Store) -> None:
    await submitted(store, idempotency_key="k", submitter=ALICE)
    await submitted(store, idempotency_key="k", submitter=BOB)


async def test_one_key_at_once_makes_one_job(store: Store) -> None:
    requests = [submission(idempotency_key="k") for _ in range(20)]
    answers = await asyncio.gather(*map(store.submit, requests))
    assert len({job.job_id for job, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1


async def test_take_gives_a_due_job_to_one_worker(store: Store) -> None:
    job = await admitted(store)
    takers = await asyncio.gather(*(store.claim(job.job_id, 60) for _ in range(30)))
    (taken,) = [found for found in takers if found is not None]
    assert taken.version == job.version + 1
    assert taken.due_at is not None
    assert timedelta(seconds=50) < taken.due_at - datetime.now(UTC) < timedelta(seconds=70)
    assert await store.job(job.job_id) == taken


async def test_a_taken_job_is_due_again_when_its_worker_is_gone(store: Store) -> None:
    job = await admitted(store)
    assert await store.claim(job.job_id, 0.05)
    assert await within(lambda: store.claim(job.job_id, 60))


async def test_a_waiting_job_is_not_taken(store: Store) -> None:
    job = await submitted(store)
    assert await store.claim(job.job_id, 60) is None
    assert await store.due(10) == []


async def test_due_lists_the_longest_overdue_first(store: Store) -> None:
    made = [await admitted(store) for _ in range(4)]
    await store.update(made[0], delay=-5)
    await store.update(made[1], delay=-50)
    await store.update(made[2], delay=50)
    await store.update(made[3], delay=None)
    assert await store.due(10) == [made[1].job_id, made[0].job_id]
    assert await store.due(1) == [made[1].job_id]


async def test_apply_changes_what_it_is_given(store: Store) -> None:
    job = await admitted(store)
    changed = await store.apply(
        job,
        Event.STAGED,
        wake=("transfer",),
        delay=30,
        time_staged=NOW,
        stager_path="/copy/\N{SNOWMAN}",
        product_size=2**40,
        partial=True,
    )
    assert (changed.status, changed.version) == (Status.STAGING, job.version + 1)
    assert (changed.stager_path, changed.product_size) == ("/copy/\N{SNOWMAN}", 2**40)
    assert changed.partial is True
    assert changed.time_staged is not None
    assert changed.due_at == changed.time_staged + timedelta(seconds=30)
    assert await store.job(job.job_id) == changed
    assert (await routings(store))[-2:] == ["transfer", "event"]


async def test_the_event_row_tells_of_the_transition(store: Store) -> None:
    job = await staged(store)
    *_, row = await store.outbox_take(100, 0)
    assert (row.routing, row.job_id) == ("event", job.job_id)
    assert row.payload == {
        "job_id": job.job_id,
        "submitter": ALICE,
        "status": "STAGING",
        "attempt": 1,
        "staged": True,
        "error_class": None,
        "version": job.version,
    }


async def test_one_of_many_changes_wins(store: Store) -> None:
    job = await admitted(store)
    events = [Event.STAGED, Event.CANCEL, Event.FAIL, Event.RESTAGE, Event.TRANSFER] * 6
    results = await asyncio.gather(
        *(store.apply(job, event) for event in events), return_exceptions=True
    )
    winners = [result for result in results if isinstance(result, Job)]
    assert len(winners) == 1
    assert sum(isinstance(result, LostRace) for result in results) == len(events) - 1
    assert await store.job(job.job_id) == winners[0]
    assert (await routings(store)).count("event") == 3  # submitted, admitted, and the winner's


async def test_what_the_table_lacks_is_not_applied(store: Store) -> None:
    job = await submitted(store)
    with pytest.raises(IllegalTransition):
        await store.apply(job, Event.DELIVER)
    assert await store.job(job.job_id) == job


async def test_update_keeps_the_due_time_and_tells_nobody(store: Store) -> None:
    job = await admitted(store)
    before = await routings(store)
    changed = await store.update(job, stager_callback="ab" * 16)
    assert (changed.due_at, changed.version) == (job.due_at, job.version + 1)
    assert changed.stager_callback == "ab" * 16
    assert await routings(store) == before
    with pytest.raises(LostRace):
        await store.update(job, stager_callback=None)


@pytest.mark.parametrize("column", ["nonsense", "version", "submitter", "time_error", "a = 1; --"])
async def test_only_columns_that_may_change_are_taken(store: Store, column: str) -> None:
    job = await admitted(store)
    with pytest.raises(TypeError, match="may be set"):
        await store.update(job, **{column: 1})


async def test_endless_or_odd_prose_never_keeps_a_job_from_ending(store: Store) -> None:
    job = await admitted(store)
    reason = "\N{TELESCOPE}" * 30_000 + "\udcff"
    ended = await store.apply(
        job, Event.FAIL, detailed_status=reason, fts_details="\ud800 broken", stager_status=reason
    )
    assert ended.status is Status.ERROR
    assert ended.detailed_status == "\N{TELESCOPE}" * 16_383
    assert ended.fts_details == "? broken"


async def test_one_destination_file_has_one_writer(store: Store) -> None:
    first, second = await staged(store), await staged(store)
    first = await store.apply(first, Event.TRANSFER, destination_key=KEY)
    with pytest.raises(DestinationBusy):
        await store.apply(second, Event.TRANSFER, destination_key=KEY)
    assert await store.job(second.job_id) == second
    with pytest.raises(DestinationBusy):
        await store.update(second, destination_key=KEY)
    await store.apply(first, Event.DELIVER)
    assert await store.apply(second, Event.TRANSFER, destination_key=KEY)


async def test_jobs_are_found_by_their_fts_id(store: Store) -> None:
    made = [await transferring(store) for _ in range(4)]
    for number, job in enumerate(made):
        made[number] = await store.update(job, fts_endpoint="a", fts_jobid=f"id-{number}")
    made[2] = await store.update(made[2], fts_endpoint="b")
    await store.apply(made[3], Event.DELIVER)
    ids = [f"id-{number}" for number in range(200)]
    found = await store.by_fts("a", ids)
    assert sorted(job.job_id for job in found) == sorted(job.job_id for job in made[:2])
    assert await store.by_fts("a", []) == []


async def test_transferring_pages_through_what_fts_took(store: Store) -> None:
    made = [await transferring(store) for _ in range(6)]
    for job in made[:5]:
        await store.update(job, fts_endpoint="a", fts_posted=NOW, delay=None)
    await store.update(made[5], fts_endpoint="a")
    assert await store.transferring("a", 60) == []
    assert await store.transferring("b", 0) == []
    expected, found, after = sorted(job.job_id for job in made[:5]), list[str](), ""
    while page := await store.transferring("a", 0, after=after, limit=2):
        assert len(page) <= 2
        found += [job.job_id for job in page]
        after = found[-1]
    assert found == expected


async def test_counts_name_every_status(store: Store) -> None:
    await transferring(store)
    await admitted(store)
    await submitted(store)
    assert await store.counts() == {
        Status.SUBMITTED: 1,
        Status.STAGING: 1,
        Status.TRANSFERRING: 1,
        Status.SUCCESS: 0,
        Status.ERROR: 0,
        Status.CANCELLED: 0,
    }


async def test_the_queries_use_their_indexes(database: Database, migrated: Server) -> None:
    fill(migrated, ALICE, 10_000)
    migrated.run(
        "UPDATE jobs SET status = 'STAGING' WHERE product_id < 300",
        "UPDATE jobs SET status = 'TRANSFERRING', fts_jobid = product_id, fts_endpoint = 'a'"
        " WHERE status = 'STAGING' AND product_id < 200",
        "ANALYZE TABLE jobs",
    )
    explain = partial(explained, database)
    assert await explain(lambda tx: jobs.due(tx, 100)) == ["due"]
    ids = [str(number) for number in range(100)]
    assert await explain(lambda tx: jobs.by_fts(tx, "a", ids)) == ["fts_jobid"] * 2
    assert await explain(lambda tx: jobs.transferring(tx, "a", 0, "", 500)) == ["polled"]


async def explained(database: Database, call: Callable[[Connection], object]) -> list[str]:
    """The indexes that the queries of `call` use."""
    keys: list[str] = []

    class Explaining(Connection):
        def query(self, sql: str, *params: object) -> list[Row]:
            keys.extend(row["key"] for row in super().query("EXPLAIN " + sql, *params))
            return []

    await database.transaction(lambda tx: call(Explaining(tx._raw, tx.clock)))
    return keys


async def within(condition: Any, seconds: float = 60) -> Any:
    """Wait until the coroutine function gives something true."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.01)
    return found


async def test_admission_needs_its_row(store: Store, migrated: Server) -> None:
    migrated.run("DELETE FROM leases")
    with pytest.raises(LookupError, match="admission"):
        await store.admit(LIMITS.staging)

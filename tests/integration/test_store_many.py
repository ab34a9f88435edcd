"""Many submissions at once: an outcome for each, in few statements, and none twice."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

from support.private_mariadb import Server
from support.samples import ALICE, LABEL, submission, submitted

from deliv.db.database import Database
from deliv.errors import DelivError, InvalidRequest, KeyReused, QuotaExceeded
from deliv.model.job import Submission
from deliv.model.states import Event, Status
from deliv.store import Store, submissions
from deliv.store.submissions import WOKEN, Outcome
from integration.test_store_archive import DAY, ended, held


def keyed(number: int, prefix: str = "k") -> Submission:
    return submission(product_id=f"product-{number}", idempotency_key=f"{prefix}{number}")


def job_id(outcome: Outcome) -> str:
    assert not isinstance(outcome, DelivError), outcome
    return outcome[0].job_id


def created(outcomes: list[Outcome]) -> list[bool]:
    return [not isinstance(one, DelivError) and one[1] for one in outcomes]


async def how_many(store: Store) -> int:
    return sum((await store.counts()).values())


async def test_each_has_an_outcome_in_its_place(store: Store) -> None:
    known = await submitted(store, idempotency_key="known")
    wanted = [
        submission(label=LABEL),
        submission(idempotency_key="known"),
        submission(idempotency_key="known", product_id="another"),
        submission(deadline=datetime.now(UTC) - timedelta(hours=1)),
        submission(quota=2),
        submission(idempotency_key="new", label=LABEL),
        submission(idempotency_key="new", label=LABEL),
        submission(idempotency_key="new"),
    ]
    outcomes = await store.submit_many(wanted)
    first, old, reused, late, over, new, again, other = outcomes
    assert [type(one) for one in (reused, late, over, other)] == [
        KeyReused, InvalidRequest, QuotaExceeded, KeyReused,
    ]  # fmt: skip
    assert (job_id(first), job_id(new)) == (wanted[0].job_id, wanted[5].job_id)
    assert old == (known, False)
    assert (job_id(again), created([again])) == (job_id(new), [False])
    assert await how_many(store) == 3
    assert (await store.totals(ALICE, LABEL))[Status.SUBMITTED] == 2
    assert not isinstance(first, DelivError)
    assert first[0] == await store.job(wanted[0].job_id)


async def test_a_quota_takes_the_first_ones(store: Store) -> None:
    first = await submitted(store, quota=3)
    outcomes = await store.submit_many([submission(quota=3) for _ in range(4)])
    assert created(outcomes) == [True, True, False, False]
    assert "3 unfinished transfers, its quota" in str(outcomes[3])
    assert await how_many(store) == 3
    await store.apply(first, Event.CANCEL, delay=None)
    outcomes = await store.submit_many([submission(quota=3), submission(quota=4)])
    assert created(outcomes) == [True, True]


async def test_nothing_of_refused_ones_is_left(store: Store, migrated: Server) -> None:
    outcomes = await store.submit_many([submission(quota=0), submission(quota=0)])
    assert created(outcomes) == [False, False]
    assert migrated.run("SELECT * FROM jobs") == migrated.run("SELECT * FROM outbox") == []


async def test_they_are_announced_and_admissions_asked_for(store: Store) -> None:
    calls = []
    store.on_outbox = lambda: calls.append(True)
    wanted = [submission() for _ in range(WOKEN + 20)]
    await store.submit_many(wanted)
    rows = await store.outbox_take(10_000, 0)
    events = [row for row in rows if row.routing == "event"]
    assert [row.job_id for row in events] == [one.job_id for one in wanted]
    assert {row.payload["status"] for row in events} == {"SUBMITTED"}
    assert len(rows) - len(events) == WOKEN
    assert calls == [True]


async def test_many_take_as_many_statements_as_few(migrated: Server) -> None:
    database = Database(migrated.settings(pool=2))
    asked = "SHOW GLOBAL STATUS LIKE 'Questions'"

    async def statements(count: int) -> int:
        store = Store(database)
        wanted = [keyed(number, f"{count}-") for number in range(count)]
        await store.submit_many([submission()])
        before = int((await database.query(asked))[0]["Value"])
        assert all(created(await store.submit_many(wanted)))
        return int((await database.query(asked))[0]["Value"]) - before

    try:
        assert await statements(200) == await statements(2)
    finally:
        database.close()


async def test_the_same_again_is_the_same_jobs(store: Store) -> None:
    wanted = [keyed(number) for number in range(30)]
    first = await store.submit_many(wanted)
    second = await store.submit_many([keyed(number) for number in range(40)])
    assert all(created(first))
    assert created(second) == [False] * 30 + [True] * 10
    assert [job_id(one) for one in second[:30]] == [job_id(one) for one in first]
    assert await how_many(store) == 40


async def test_callers_with_the_same_keys_at_once_make_each_job_once(store: Store) -> None:
    """In another order each, so that one waits for the other's keys and is waited for."""
    numbers = range(50)
    answers = await asyncio.gather(
        *(
            store.submit_many([keyed(number) for number in order])
            for order in (numbers, numbers[::-1], [*numbers[25:], *numbers[:25]])
            for _ in range(2)
        )
    )
    assert await how_many(store) == len(numbers)
    assert sum(sum(created(outcomes)) for outcomes in answers) == len(numbers)
    assert len({frozenset(map(job_id, outcomes)) for outcomes in answers}) == 1


async def test_keys_of_archived_and_of_forgotten_jobs(store: Store, migrated: Server) -> None:
    fence = await held(store)
    archived = await ended(store, migrated, 40, idempotency_key="archived")
    over = await ended(store, migrated, 90, idempotency_key="over")
    await store.archive(fence, 30 * DAY, 100)
    kept = await ended(store, migrated, 70, idempotency_key="over too")
    migrated.rewrite(
        *(
            f"UPDATE {table} SET time_submitted = NOW(6) - INTERVAL 70 DAY"  # noqa: S608
            " WHERE idempotency_key LIKE 'over%'"
            for table in ("jobs", "jobs_archive")
        )
    )
    wanted = [
        submission(idempotency_key=key) for key in ("archived", "over", "over too", "unknown")
    ]
    outcomes = await store.submit_many(wanted, key_life=60 * DAY)
    assert outcomes[0] == (archived, False)
    assert created(outcomes) == [False, True, True, True]
    assert {job_id(outcomes[1]), job_id(outcomes[2])}.isdisjoint({over.job_id, kept.job_id})


async def test_what_was_committed_without_an_answer_is_found_again(
    store: Store, database: Database
) -> None:
    """Also where a quota would not let it in a second time."""
    wanted = [submission(quota=2), submission(quota=2, idempotency_key="k"), submission(quota=2)]
    first = await database.transaction(lambda tx: submissions.submit(tx, wanted, math.inf))
    again = await database.transaction(
        lambda tx: submissions.submit(tx, wanted, math.inf, again=True)
    )
    assert created(first) == created(again) == [True, True, False]
    assert [job_id(one) for one in again[:2]] == [job_id(one) for one in first[:2]]
    assert await how_many(store) == 2

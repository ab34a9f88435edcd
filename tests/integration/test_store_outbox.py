"""The outbox: taken by one relay at a time, kept until it is done."""

from __future__ import annotations

import asyncio
from typing import Any

from support.private_mariadb import Server
from support.samples import submission, submitted

from deliv.db.database import Database
from deliv.store import Store


async def within(condition: Any, seconds: float = 60) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.01)
    return found


async def test_rows_come_in_order_and_once(store: Store) -> None:
    jobs = [await submitted(store) for _ in range(3)]
    first = await store.outbox_take(4, 60)
    second = await store.outbox_take(4, 60)
    assert [row.job_id for row in first + second] == [job.job_id for job in jobs for _ in "12"]
    assert [row.routing for row in first] == ["stage", "event"] * 2
    assert first[0].payload == {}
    assert await store.outbox_take(4, 60) == []


async def test_what_was_not_done_comes_again(store: Store) -> None:
    await submitted(store)
    taken = await store.outbox_take(10, 0.2)
    again = await within(lambda: store.outbox_take(10, 60))
    assert again == taken


async def test_what_is_done_is_gone(store: Store) -> None:
    await submitted(store)
    stage, event = await store.outbox_take(10, 0)
    await store.outbox_done([stage.id])
    assert await store.outbox_take(10, 0) == [event]
    await store.outbox_done([])
    await store.outbox_done([stage.id, event.id])
    assert await store.outbox_take(10, 0) == []


async def test_relays_at_once_share_the_rows(store: Store, migrated: Server) -> None:
    await asyncio.gather(*(store.submit(submission()) for _ in range(40)))
    other = Database(migrated.settings())
    relays = [store, Store(other)] * 8
    takes = await asyncio.gather(*(relay.outbox_take(7, 60) for relay in relays))
    rest = await store.outbox_take(100, 60)
    ids = [row.id for rows in takes for row in rows] + [row.id for row in rest]
    assert len(ids) == len(set(ids)) == 80
    other.close()


async def test_a_row_locked_by_another_relay_does_not_hold_us_up(
    store: Store, migrated: Server
) -> None:
    await submitted(store)
    with migrated.admin() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT id FROM deliv.outbox WHERE id = 1 FOR UPDATE")
        async with asyncio.timeout(60):
            rows = await store.outbox_take(10, 0)
    assert [row.routing for row in rows] == ["event"]


async def test_the_caller_hears_of_new_rows_only(store: Store) -> None:
    heard: list[str] = []
    store.on_outbox = lambda: heard.append("rows")
    job = await submitted(store)
    await store.update(job, stager_status="no row")
    await store.outbox_take(10, 0)
    assert heard == ["rows"]

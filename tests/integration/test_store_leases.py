"""Leases: one holder at a time, by the database's clock."""

from __future__ import annotations

import asyncio

from support.private_mariadb import Server

from deliv.db.database import Database
from deliv.store import Store

JOB = "0190b6c4-0000-7000-8000-00000000000a"


async def acquired(store: Store, name: str, owner: str) -> int:
    """Try until it is ours."""
    async with asyncio.timeout(60):
        while (fence := await store.lease(name, owner, 60)) is None:
            await asyncio.sleep(0.02)
    return fence


async def test_a_lease_has_one_holder(store: Store) -> None:
    assert await store.lease("sweep", "a", 60) == 1
    assert await store.lease("sweep", "b", 60) is None
    assert await store.lease("other", "b", 60) == 1


async def test_renewing_keeps_the_fence(store: Store) -> None:
    assert [await store.lease("sweep", "a", 60) for _ in range(3)] == [1, 1, 1]


async def test_an_expired_lease_moves_on_with_a_higher_fence(store: Store) -> None:
    assert await store.lease("sweep", "a", 0.2) == 1
    assert await acquired(store, "sweep", "b") == 2
    assert await store.lease("sweep", "a", 60) is None


async def test_who_comes_back_too_late_has_a_higher_fence(store: Store, migrated: Server) -> None:
    assert await store.lease("sweep", "a", 60) == 1
    migrated.run("UPDATE leases SET expires = NOW(6) WHERE name = 'sweep'")
    assert await store.lease("sweep", "a", 60) == 2


async def test_a_released_lease_is_free_at_once(store: Store) -> None:
    await store.lease("sweep", "a", 60)
    await store.release("sweep", "b")
    assert await store.lease("sweep", "b", 60) is None
    await store.release("sweep", "a")
    assert await store.lease("sweep", "b", 60) == 2


async def test_everything_of_an_owner_is_released(store: Store) -> None:
    for name in ("sweep", "poll"):
        await store.lease(name, "a", 60)
    await store.lease("relay", "b", 60)
    await store.release_all("a")
    assert await store.lease("sweep", "c", 60) == 2
    assert await store.lease("poll", "c", 60) == 2
    assert await store.lease("relay", "c", 60) is None


async def test_of_many_at_once_one_gets_a_new_lease(store: Store, migrated: Server) -> None:
    other = Database(migrated.settings())
    stores = [store, Store(other)]
    owners = [f"owner-{number}" for number in range(16)]
    fences = await asyncio.gather(
        *(stores[number % 2].lease("new", owner, 60) for number, owner in enumerate(owners))
    )
    assert sorted(fence for fence in fences if fence is not None) == [1]
    other.close()


async def test_trying_to_write_leaves_nothing(store: Store, migrated: Server) -> None:
    leases = migrated.run("SELECT * FROM leases")
    await store.check_writable()
    assert migrated.run("SELECT * FROM leases") == leases


async def test_a_server_that_only_reads_is_not_writable(store: Store, migrated: Server) -> None:
    """As on a full disk, which holds back commits: it waits, as any change would."""
    with migrated.admin() as administrator, administrator.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        trying = asyncio.ensure_future(store.check_writable())
        await asyncio.wait({trying}, timeout=0.5)
        assert not trying.done()
        assert await store.job(JOB) is None
        cursor.execute("UNLOCK TABLES")
    await trying

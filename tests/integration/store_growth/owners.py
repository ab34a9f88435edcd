"""Calls about who works on what, and for whom: leases and delegations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from support.samples import ALICE, BOB, submitted

from deliv.model.job import TransferIdentity
from integration.store_growth.world import Call, World, case, handed_over
from integration.test_store_archive import DAY, held


@case("lease, new")
async def _(world: World) -> Call:
    return lambda: world.store.lease("another", "me", 60)


@case("lease, renewed")
async def _(world: World) -> Call:
    await held(world.store)
    return lambda: world.store.lease("retention", "me", 60)


@case("release")
async def _(world: World) -> Call:
    return lambda: world.store.release("another", "me")


@case("release_all")
async def _(world: World) -> Call:
    return lambda: world.store.release_all("me")


@case("create_lease")
async def _(world: World) -> Call:
    return lambda: world.store.create_lease("one more")


@case("remove_lease")
async def _(world: World) -> Call:
    await world.store.create_lease("one more")
    return lambda: world.store.remove_lease("one more")


@case("find")
async def _(world: World) -> Call:
    await world.delegation(ALICE)
    return lambda: world.delegations.find(ALICE[-6:])


@case("keep_request, the first")
async def _(world: World) -> Call:
    return lambda: world.delegations.keep_request("first", "/CN=first", "request", b"key")


@case("keep_request, again")
async def _(world: World) -> Call:
    await world.delegation(ALICE)
    return lambda: world.delegations.keep_request(ALICE[-6:], ALICE, "request", b"key")


@case("accept, a proxy")
async def _(world: World) -> Call:
    known = await world.delegations.keep_request("taken", "/CN=taken", "request", b"key")
    later = datetime.now(UTC) + timedelta(hours=1)
    return lambda: world.delegations.accept(known, proxy="proxy", key=b"key", expires=later)


@case("drop")
async def _(world: World) -> Call:
    await world.delegation("/CN=dropped")
    return lambda: world.delegations.drop("ropped")


@case("wipe")
async def _(world: World) -> Call:
    fence = await held(world.store)
    await world.delegation("/CN=wiped!", expires=timedelta(0))
    return lambda: world.delegations.wipe(fence, 0)


@case("expiring")
async def _(world: World) -> Call:
    await world.delegation(BOB)
    return lambda: world.delegations.expiring(DAY, 10)


@case("notify")
async def _(world: World) -> Call:
    await submitted(world.store, copied_as=TransferIdentity.USER)
    one = await world.delegation(ALICE)
    return lambda: world.delegations.notify(one)


@case("single_file_owners")
async def _(world: World) -> Call:
    await handed_over(world, copied_as=TransferIdentity.USER)
    return lambda: world.store.single_file_owners("fts1")

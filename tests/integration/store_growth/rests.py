"""Calls about places that rest."""

from __future__ import annotations

from support.samples import HOST, submitted

from deliv.config import Bytes, StagingLimits
from deliv.model.rest import RestRules, operators_place
from deliv.model.states import Event
from integration.store_growth.world import Call, World, case, handed_over

RULES = RestRules()
PLACE = operators_place(HOST)
FULL = StagingLimits(bytes=Bytes(1), bytes_per_product=Bytes(1))


async def begun(world: World) -> None:
    await world.store.begin_rest(operators_place(HOST), "a disk", None, "root")


@case("credential_lasts")
async def _(world: World) -> Call:
    return lambda: world.store.credential_lasts("/CN=nobody", RULES)


@case("rest_of")
async def _(world: World) -> Call:
    job = await submitted(world.store)
    return lambda: world.store.rest_of(job)


@case("rests_of")
async def _(world: World) -> Call:
    jobs = [await submitted(world.store) for _ in range(2)]
    return lambda: world.store.rests_of(jobs)


@case("fail_at")
async def _(world: World) -> Call:
    job = await handed_over(world)
    what = job, Event.RETRANSFER, PLACE, "refused", "[111] refused", RULES
    return lambda: world.store.fail_at(*what, attempt=2)


@case("rest")
async def _(world: World) -> Call:
    job = await handed_over(world)
    await begun(world)
    (rest, *_) = await world.store.rests(10)
    return lambda: world.store.rest(job, rest, 60)


@case("wait_at")
async def _(world: World) -> Call:
    return lambda: world.store.wait_at(PLACE, "it is out")


@case("begin_rest")
async def _(world: World) -> Call:
    return lambda: begun(world)


@case("rests")
async def _(world: World) -> Call:
    return lambda: world.store.rests(10)


@case("resting")
async def _(world: World) -> Call:
    return world.store.resting


@case("try_rests")
async def _(world: World) -> Call:
    await begun(world)
    return lambda: world.store.try_rests(RULES, 10)


@case("tired")
async def _(world: World) -> Call:
    await begun(world)
    return lambda: world.store.tired(RestRules(patience=0, patience_new=0), 10)


@case("end_rest")
async def _(world: World) -> Call:
    await begun(world)
    return lambda: world.store.end_rest(PLACE.key)


@case("free_rested")
async def _(world: World) -> Call:
    await world.store.end_rest(PLACE.key)
    return lambda: world.store.free_rested(RULES, 10)


@case("in_the_way")
async def _(world: World) -> Call:
    return lambda: world.store.in_the_way(FULL, 10)

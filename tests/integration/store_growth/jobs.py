"""Calls about jobs: submitted, admitted, looked at, changed, archived."""

from __future__ import annotations

import contextlib
import itertools
from datetime import UTC, datetime, timedelta

from support.samples import ALICE, BOB, LABEL, LIMITS, submission, submitted

from deliv.errors import QuotaExceeded
from deliv.model.job import Listing
from deliv.model.states import FINAL, Event, Status
from deliv.store import NOW, Routing
from deliv.store.archive import first_id
from integration.store_growth.world import (
    KEY,
    PRODUCT,
    Call,
    Case,
    World,
    admitted,
    case,
    handed_over,
    staged,
)
from integration.test_store_archive import DAY, ended, held


@case("check_writable")
async def _(world: World) -> Call:
    return world.store.check_writable


@case("submit, plain")
async def _(world: World) -> Call:
    return lambda: world.store.submit(submission())


@case("submit, with a deadline")
async def _(world: World) -> Call:
    wanted = submission(deadline=datetime.now(UTC) + timedelta(hours=1))
    return lambda: world.store.submit(wanted)


@case("submit, with a quota")
async def _(world: World) -> Call:
    return lambda: world.store.submit(submission(quota=1000))


@case("submit, over the quota")
async def _(world: World) -> Call:
    async def call() -> None:
        with contextlib.suppress(QuotaExceeded):
            await world.store.submit(submission(quota=0))

    return call


@case("submit, with a new key")
async def _(world: World) -> Call:
    return lambda: world.store.submit(submission(idempotency_key="new"), key_life=DAY)


@case("submit, with a key that is known")
async def _(world: World) -> Call:
    await world.store.submit(submission(idempotency_key="known"))
    return lambda: world.store.submit(submission(idempotency_key="known"), key_life=DAY)


@case("submit, with a key whose time is over")
async def _(world: World) -> Call:
    await ended(world.store, world.server, 20, idempotency_key="over")
    return lambda: world.store.submit(submission(idempotency_key="over"), key_life=0)


@case("submit, with an archived key")
async def _(world: World) -> Call:
    await ended(world.store, world.server, 40, idempotency_key="old")
    await world.store.archive(await held(world.store), 30 * DAY, 10)
    return lambda: world.store.submit(submission(idempotency_key="old"), key_life=100 * DAY)


@case("submit_many, of each kind")
async def _(world: World) -> Call:
    await ended(world.store, world.server, 41, idempotency_key="archived")
    await world.store.archive(await held(world.store), 30 * DAY, 10)
    await world.store.submit(submission(idempotency_key="there"))
    keys = ("archived", "there", "not there", None)
    wanted = [submission(idempotency_key=key, label=LABEL, quota=1000) for key in keys]
    return lambda: world.store.submit_many(wanted, key_life=100 * DAY)


@case("submit_many, repeating jobs")
async def _(world: World) -> Call:
    ids = [await world.sample(), await world.sample("jobs_archive")]
    await world.store.submit(submission(retry_of=ids[0]))
    wanted = [submission(retry_of=job_id) for job_id in ids]
    return lambda: world.store.submit_many(wanted)


@case("retries_of")
async def _(world: World) -> Call:
    job = await submitted(world.store)
    ids = [await world.sample(), await world.sample("jobs_archive"), job.job_id]
    await world.store.submit(submission(retry_of=job.job_id))
    return lambda: world.store.retries_of(ids)


@case("copied_before")
async def _(world: World) -> Call:
    again = submission(retry_of=await world.sample("jobs_archive"))
    job, _ = await world.store.submit(again)
    return lambda: world.store.copied_before(job)


@case("several")
async def _(world: World) -> Call:
    ids = [await world.sample(), await world.sample("jobs_archive"), "unknown"]
    return lambda: world.store.several(ids)


@case("job, ended")
async def _(world: World) -> Call:
    job_id = await world.sample()
    return lambda: world.store.job(job_id)


@case("job, archived")
async def _(world: World) -> Call:
    job_id = await world.sample("jobs_archive")
    return lambda: world.store.job(job_id)


@case("job, unknown")
async def _(world: World) -> Call:
    return lambda: world.store.job("0190a5b0-0000-7000-8000-000000000000")


@case("events, ended")
async def _(world: World) -> Call:
    job_id = await world.sample()
    return lambda: world.store.events(job_id)


@case("events, archived")
async def _(world: World) -> Call:
    job_id = await world.sample("jobs_archive")
    return lambda: world.store.events(job_id)


@case("admit, none waits")
async def _(world: World) -> Call:
    while await world.store.admit(LIMITS.staging):
        pass
    return lambda: world.store.admit(LIMITS.staging)


@case("held_by")
async def _(world: World) -> Call:
    job = await submitted(world.store)
    return lambda: world.store.held_by(LIMITS, [job, job])


@case("held_by, staged")
async def _(world: World) -> Call:
    job = await staged(world)
    return lambda: world.store.held_by(LIMITS, [job, job])


@case("join_fts_queue")
async def _(world: World) -> Call:
    job = await staged(world)
    return lambda: world.store.join_fts_queue(job, 60)


@case("give_fts_place")
async def _(world: World) -> Call:
    for _ in range(2):
        await world.store.join_fts_queue(await staged(world), 60)
    return lambda: world.store.give_fts_place(LIMITS)


@case("fts_places")
async def _(world: World) -> Call:
    await world.store.join_fts_queue(await staged(world), 60)
    return world.store.fts_places


@case("staging_area")
async def _(world: World) -> Call:
    await admitted(world)
    return world.store.staging_area


@case("update, with a message")
async def _(world: World) -> Call:
    job = await admitted(world)
    return lambda: world.store.update(job, wake=(Routing.ADMIT,), time_released=NOW)


@case("admit, some wait")
async def _(world: World) -> Call:
    for submitter in (ALICE, BOB):
        await submitted(world.store, submitter=submitter)
    return lambda: world.store.admit(LIMITS.staging)


@case("claim, due")
async def _(world: World) -> Call:
    job = await admitted(world)
    return lambda: world.store.claim(job.job_id, 60)


@case("claim, ended")
async def _(world: World) -> Call:
    job_id = await world.sample()
    return lambda: world.store.claim(job_id, 60)


@case("due")
async def _(world: World) -> Call:
    await admitted(world)
    return lambda: world.store.due(100)


@case("expired")
async def _(world: World) -> Call:
    soon = datetime.now(UTC) + timedelta(hours=1)
    job = await submitted(world.store, deadline=soon)
    world.server.run(f"UPDATE jobs SET deadline = NOW(6) WHERE job_id = '{job.job_id}'")  # noqa: S608
    return lambda: world.store.expired(100)


@case("apply, a step")
async def _(world: World) -> Call:
    job = await admitted(world)
    return lambda: world.store.apply(job, Event.STAGED, wake=("transfer",), time_staged=NOW)


@case("apply, the end")
async def _(world: World) -> Call:
    job = await admitted(world)
    return lambda: world.store.apply(job, Event.CANCEL, delay=None)


@case("update, plain")
async def _(world: World) -> Call:
    job = await admitted(world)
    return lambda: world.store.update(job, delay=60, destination_key=KEY)


@case("update, under a lease")
async def _(world: World) -> Call:
    job, fence = await admitted(world), await held(world.store)
    return lambda: world.store.update(job, fence=fence, fts_misses=1)


@case("by_fts, of ended jobs too")
async def _(world: World) -> Call:
    rows = await world.database.query("SELECT fts_jobid FROM jobs ORDER BY job_id LIMIT 50")
    job = await handed_over(world)
    ids = [*(row["fts_jobid"] for row in rows), job.fts_jobid]
    return lambda: world.store.by_fts("fts1", [name for name in ids if name])


@case("transferring, from the start")
async def _(world: World) -> Call:
    await handed_over(world)
    return lambda: world.store.transferring("fts1", 0, limit=10)


@case("transferring, behind a job")
async def _(world: World) -> Call:
    job = await handed_over(world)
    return lambda: world.store.transferring("fts1", 0, after=job.job_id, limit=10)


@case("note_time, plain")
async def _(world: World) -> Call:
    return lambda: world.store.note_time(60)


@case("note_time, when it was not for days")
async def _(world: World) -> Call:
    await world.store.note_time(60)
    await world.database.execute("UPDATE clock SET seen = seen - INTERVAL 3 DAY")
    return lambda: world.store.note_time(60)


@case("time_is_noted")
async def _(world: World) -> Call:
    return world.store.time_is_noted


@case("note_time, after a step back")
async def _(world: World) -> Call:
    await world.store.note_time(60)
    world.server.run("UPDATE clock SET seen = NOW(6) + INTERVAL 600 SECOND")
    return lambda: world.store.note_time(60)


@case("age")
async def _(world: World) -> Call:
    return lambda: world.store.age(datetime.now(UTC))


@case("counts")
async def _(world: World) -> Call:
    return world.store.counts


@case("totals, of a label")
async def _(world: World) -> Call:
    return lambda: world.store.totals(ALICE, LABEL)


@case("totals, of no label")
async def _(world: World) -> Call:
    return lambda: world.store.totals(ALICE, "unknown")


@case("outbox_take")
async def _(world: World) -> Call:
    await submitted(world.store)
    return lambda: world.store.outbox_take(1, 0)


@case("outbox_done")
async def _(world: World) -> Call:
    await submitted(world.store)
    rows = await world.store.outbox_take(2, 0)
    return lambda: world.store.outbox_done([row.id for row in rows])


@case("outbox_trim")
async def _(world: World) -> Call:
    fence = await held(world.store)
    await submitted(world.store)
    return lambda: world.store.outbox_trim(fence, DAY, 5)


@case("archive, nothing")
async def _(world: World) -> Call:
    fence = await held(world.store)
    return lambda: world.store.archive(fence, 30 * DAY, 500)


@case("archive, some of many")
async def _(world: World) -> Call:
    fence = await held(world.store)
    for days in (31, 32, 33, 34):
        await ended(world.store, world.server, days, sorted(FINAL)[days % 3])
    return lambda: world.store.archive(fence, 30 * DAY, 2)


@case("forget, nothing")
async def _(world: World) -> Call:
    fence = await held(world.store)
    return lambda: world.store.forget(fence, 1000 * DAY, 500)


@case("forget, some of many")
async def _(world: World) -> Call:
    fence = await held(world.store)
    return lambda: world.store.forget(fence, 100 * DAY, 3)


def add_pages() -> None:
    """Every combination of what GET /transfers can be asked for."""
    filters = {
        "submitter": (ALICE, "/CN=unknown"),
        "label": (LABEL, "unknown"),
        "product_id": (PRODUCT, "nomatch"),
        "status": (Status.ERROR, Status.STAGING),
    }
    stretches = {
        "all": {},
        "a stretch": {"since": timedelta(days=300), "until": timedelta(days=10)},
        "a late page": {"before": timedelta(days=200)},
    }
    for used in itertools.product((None, 0, 1), repeat=len(filters)):
        wanted = {
            name: values[index]
            for (name, values), index in zip(filters.items(), used, strict=True)
            if index is not None
        }
        if "label" in wanted and "submitter" not in wanted:
            continue
        for stretch, bounds in stretches.items():
            words = ", ".join(f"{name} {value}" for name, value in wanted.items())
            case(f"page, {words or 'no filter'}, {stretch}")(page_of(wanted, bounds))


def page_of(wanted: dict[str, object], bounds: dict[str, timedelta]) -> Case:
    async def prepare(world: World) -> Call:
        now = datetime.now(UTC)
        times = {name: now - ago for name, ago in bounds.items()}
        if "before" in times:
            times["before"] = first_id(times["before"])
        return lambda: world.store.page(Listing(limit=20, **wanted, **times))

    return prepare


add_pages()

"""Jobs that rest, made by the store alone, for tests of the rests."""

from __future__ import annotations

from support.samples import (
    HOST,
    staged,
)

from deliv.db.database import Database
from deliv.model.job import Job
from deliv.model.rest import (
    Cause,
    Place,
    Rest,
    RestRules,
    place_of,
)
from deliv.model.states import Event
from deliv.store import Store

RULES = RestRules(least_life=3600)
FULL = "gsiftp://user.example.org/full"
AHEAD = "UPDATE rests SET next_try = next_try - INTERVAL 1 DAY, since = since - INTERVAL 1 DAY"
HANDED_OVER = {"fts_endpoint": "fts1", "fts_jobid": "x"}


def place(job: Job, cause: Cause = Cause.DESTINATION) -> Place:
    found = place_of(cause, job)
    assert found is not None
    return found


async def at_fts(store: Store, job: Job | None = None, **changes: object) -> Job:
    return await store.apply(job or await staged(store, **changes), Event.TRANSFER)


async def fails(
    store: Store, job: Job, cause: Cause = Cause.DESTINATION, rules: RestRules = RULES
) -> Job:
    """The job after its copy failed for that."""
    changes = {"attempt": job.attempt + 1, "excused": job.excused + 1}
    what = place(job, cause), "refused", f"DESTINATION [111] refused {job.product_id}", rules
    found = await store.fail_at(job, Event.RETRANSFER, *what, **changes)
    assert found is not None
    return found


async def reached(database: Database, server: str = HOST) -> None:
    await database.execute("INSERT IGNORE INTO reached_servers VALUES (%s)", server)


async def resting(store: Store) -> list[Rest]:
    return await store.rests(10)


async def out(store: Store, database: Database, **changes: object) -> Job:
    """A job that rests, as its host does, to which others were delivered."""
    await reached(database)
    job = await at_fts(store, **changes)
    for _ in range(RULES.after):
        job = await fails(store, job)
    assert job.rest is not None
    return job


async def due_again(database: Database, store: Store) -> None:
    await database.execute(AHEAD)
    assert await store.try_rests(RULES, 10) == 1

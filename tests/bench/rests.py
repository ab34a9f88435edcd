"""What jobs that rest cost: a round of looks, and to take a whole campaign out of the queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing

from support.private_mariadb import Server, running
from support.samples import ALICE, BOB, HOST, LIMITS, fill, submission

from bench.figures import Figure, median
from deliv.db.database import Database
from deliv.model.rest import Cause, Place, RestRules
from deliv.store import Store, migrations

COUNTS = (1_000, 100_000)
ROUNDS = 50
RULES = RestRules()
PLACE = Place(cause=Cause.SPACE, name=f"gsiftp://{HOST}/data")


def figures() -> Iterator[Figure]:
    few, many = COUNTS
    with running() as server:
        (base, first), (value, all_of_them) = (
            asyncio.run(_measured(server, count)) for count in COUNTS
        )
    yield Figure(
        what=f"a round of looks, {many:,} jobs rest", value=value,
        against=f"{few:,} jobs rest", base=base, unit="ms", most=3,
    )  # fmt: skip
    yield Figure(
        what=f"a job begins to rest, of {many:,}", value=all_of_them / many,
        against=f"of {few:,}", base=first / few, unit="ms", most=3,
    )  # fmt: skip


async def _measured(server: Server, count: int) -> tuple[float, float]:
    """Of a round of looks, and until all rest; milliseconds."""
    server.empty()
    await migrations.migrate(server.settings())
    fill(server, ALICE, count)
    with closing(Database(server.settings())) as database:
        store = Store(database)
        await store.wait_at(PLACE, "no space left")
        started = time.perf_counter()
        while await _waiting(database):
            assert await store.admit(LIMITS.staging, RULES) is None
        until_all_rest = time.perf_counter() - started
        await store.submit(submission(submitter=BOB, destination_path=f"gsiftp://{HOST}/other"))
        assert await store.admit(LIMITS.staging, RULES) is not None  # who goes elsewhere passes

        async def look() -> None:
            await store.admit(LIMITS.staging, RULES)
            await store.try_rests(RULES, 100)
            await store.free_rested(RULES, 100)
            await store.tired(RULES, 100)
            await store.resting()

        return await median(look, ROUNDS), until_all_rest * 1000


async def _waiting(database: Database) -> bool:
    sql = "SELECT 1 FROM jobs WHERE status = 'SUBMITTED' AND due_at <= NOW(6) LIMIT 1"
    return bool(await database.query(sql))

"""What a call of the store costs when the tables are large, against small ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import TypeVar

from support.private_mariadb import Server, running
from support.samples import ALICE, BOB, fill, submission

from bench.figures import Figure, median
from deliv.config import StagingLimits
from deliv.db.database import Database
from deliv.model.job import Listing
from deliv.store import Store, migrations

T = TypeVar("T")

CAPS = StagingLimits(
    in_flight=10_000, per_submitter=10_000, per_destination=10_000,
    per_submitter_and_destination=10_000,
)  # fmt: skip

TIMES = 200
ENDED = (1_000, 100_000)
WAITING = (100, 10_000)
IN_STAGING = 2_000
ADMISSIONS = 50
PAGE = 100
Measure = Callable[[Store, int], Awaitable[float]]  # with the number of jobs; milliseconds


def figures() -> Iterator[Figure]:
    with running() as server:
        yield _growing(server, "admission", admission, WAITING, "waiting")
        yield _in_staging(server)
        yield _growing(server, "submission", submit, ENDED, "ended")
        yield _growing(server, "list, first page", first_page, ENDED, "ended")
        yield _growing(server, "list, page in the middle", middle_page, ENDED, "ended")
        yield _growing(server, "search for due jobs", due, ENDED, "ended")


def _growing(
    server: Server, what: str, measure: Measure, counts: tuple[int, int], status: str
) -> Figure:
    few, many = counts
    base, value = (asyncio.run(_measured(server, measure, count, status)) for count in counts)
    return Figure(
        what=f"{what}, {many:,} {status}", value=value,
        against=f"{few:,} {status}", base=base, unit="ms", most=3,
    )  # fmt: skip


async def _measured(server: Server, measure: Measure, count: int, status: str) -> float:
    async def run(store: Store) -> float:
        return await measure(store, count)

    await _filled(server, count)
    if status == "ended":
        end_all(server)
    return await _with_store(server, run)


def _in_staging(server: Server) -> Figure:
    async def run() -> tuple[float, float]:
        await _filled(server, WAITING[1])
        return await _with_store(server, admission_above)

    base, value = asyncio.run(run())
    return Figure(
        what=f"admission, {IN_STAGING:,} in staging", value=value,
        against="none in staging", base=base, unit="ms", most=3,
    )  # fmt: skip


async def _filled(server: Server, count: int) -> None:
    server.empty()
    await migrations.migrate(server.settings())
    fill(server, ALICE, count)


def end_all(server: Server) -> None:
    """What waits is cancelled, and nothing is left to do for it."""
    server.run("UPDATE jobs SET status = 'CANCELLED', due_at = NULL", "ANALYZE TABLE jobs")


async def _with_store(server: Server, run: Callable[[Store], Awaitable[T]]) -> T:
    with closing(Database(server.settings())) as database:
        return await run(Store(database))


async def admission(store: Store, count: int) -> float:
    return await median(lambda: store.admit(CAPS), ADMISSIONS)


async def admission_above(store: Store) -> tuple[float, float]:
    """With nothing in staging before, and with IN_STAGING."""
    base = await admission(store, 0)
    for _ in range(IN_STAGING - ADMISSIONS):
        await store.admit(CAPS)
    return base, await admission(store, 0)


async def submit(store: Store, count: int) -> float:
    return await median(lambda: store.submit(submission(submitter=BOB)), TIMES)


async def first_page(store: Store, count: int) -> float:
    return await median(lambda: store.page(Listing(submitter=ALICE, limit=PAGE)), TIMES)


async def middle_page(store: Store, count: int) -> float:
    *_, middle = await store.page(Listing(submitter=ALICE, limit=count // 2))
    listing = Listing(submitter=ALICE, limit=PAGE, before=middle.job_id)
    return await median(lambda: store.page(listing), TIMES)


async def due(store: Store, count: int) -> float:
    await store.submit(submission(submitter=BOB))
    return await median(lambda: store.due(PAGE), TIMES)

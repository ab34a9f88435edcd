"""What the statements of every day cost with millions of ended jobs, against some thousands.

Two servers, one call to each in turn, so that noise is for both. Filling the large one takes most
of the time: some minutes.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from support.private_mariadb import Server, running
from support.samples import ALICE, BOB, LIMITS, history, submission

from bench.figures import MS, Figure
from deliv.db.database import Database
from deliv.model.job import Listing
from deliv.model.states import Event, Status
from deliv.store import NOW, Store, migrations

FEW, MANY = 10_000, 3_000_000  # ended jobs
ARCHIVED = 1_000
WARM, ROUNDS = 20, 200
MOST = 1.2
# The large tables fit into memory, and no call waits for a disk.
OPTIONS = (
    "--innodb-buffer-pool-size=6G", "--innodb-log-file-size=1G", "--innodb-doublewrite=0",
    "--innodb-flush-log-at-trx-commit=0",
)  # fmt: skip
PRODUCT = submission().product_id
LISTS = {
    "list": {},
    "list of a user": {"submitter": ALICE},
    "list of a status": {"status": Status.ERROR},
    "list of a product": {"product_id": PRODUCT},
    "list of a user and a status": {"submitter": ALICE, "status": Status.ERROR},
    "list of a user and a status, none": {"submitter": ALICE, "status": Status.STAGING},
    "list of a user and a product": {"submitter": ALICE, "product_id": PRODUCT},
    "list of a user and a product, none": {"submitter": ALICE, "product_id": "nomatch"},
    "list of a product and a status": {"product_id": PRODUCT, "status": Status.ERROR},
    "list of all three": {"submitter": ALICE, "product_id": PRODUCT, "status": Status.ERROR},
}


class Clock:
    """The times that calls took, by their name, in milliseconds."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def note(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.taken[name].append((time.perf_counter() - started) * MS)


def figures() -> Iterator[Figure]:
    with ExitStack() as stack:
        small, large = (stack.enter_context(running(*OPTIONS)) for _ in range(2))
        asyncio.run(_filled(small, FEW))
        asyncio.run(_filled(large, MANY))
        few, many = asyncio.run(_in_turns(small, large))
    for name, times in many.taken.items():
        yield Figure(
            what=f"{name}, {MANY:,} ended", value=statistics.median(times),
            against=f"{FEW:,} ended", base=statistics.median(few.taken[name]), unit="ms", most=MOST,
        )  # fmt: skip


async def _filled(server: Server, count: int) -> None:
    server.empty()
    await migrations.migrate(server.settings())
    history(server, count, ARCHIVED, events=1)


async def _in_turns(*servers: Server) -> list[Clock]:
    with ExitStack() as stack:
        databases = [stack.enter_context(closing(Database(s.settings()))) for s in servers]
        stores = [Store(database) for database in databases]
        for _ in range(WARM):
            for store in stores:
                await _round(store, Clock())
        clocks = [Clock() for _ in servers]
        for _ in range(ROUNDS):
            for store, clock in zip(stores, clocks, strict=True):
                await _round(store, clock)
    return clocks


async def _round(store: Store, clock: Clock) -> None:
    """A job's life, and what goes on beside it."""
    with clock.note("submission"):
        await store.submit(submission(submitter=BOB))
    with clock.note("submission under a quota"):
        await store.submit(submission(quota=1_000))
    with clock.note("admission"):
        job = await store.admit(LIMITS.staging)
    assert job is not None
    with clock.note("search for due jobs"):
        await store.due(100)
    with clock.note("search for expired jobs"):
        await store.expired(100)
    with clock.note("taking a job"):
        job = await store.claim(job.job_id, 60)
    assert job is not None
    with clock.note("staged"):
        job = await store.apply(job, Event.STAGED, wake=("transfer",), time_staged=NOW)
    with clock.note("handed over"):
        job = await store.apply(job, Event.TRANSFER, delay=None, fts_jobid=job.job_id)
    with clock.note("update"):
        job = await store.update(job, fts_endpoint="fts1", fts_posted=NOW)
    with clock.note("jobs by FTS's ids"):
        assert await store.by_fts("fts1", [job.job_id])
    with clock.note("jobs at FTS"):
        assert await store.transferring("fts1", 0)
    with clock.note("the end"):
        job = await store.apply(job, Event.DELIVER, delay=None)
    with clock.note("counts"):
        await store.counts()
    with clock.note("status"):
        await store.job(job.job_id)
    with clock.note("events"):
        await store.events(job.job_id)
    for name, wanted in LISTS.items():
        with clock.note(name):
            await store.page(Listing(limit=50, **wanted))
    await store.outbox_done([row.id for row in await store.outbox_take(100, 0)])
    other = await store.admit(LIMITS.staging)
    assert other is not None
    await store.apply(other, Event.CANCEL, delay=None)

"""No statement of the store reads more rows as history grows.

Each method is called in each shape of its arguments, with few and with many jobs that have ended
or are archived; what it reads is counted by MariaDB. A new method needs a case here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from support.private_mariadb import Server, running
from support.samples import (
    ALICE,
    BOB,
    LABEL,
    LIMITS,
    REPORT,
    assigned,
    history,
    submission,
    submitted,
    with_files,
)

from deliv.db.database import Database
from deliv.errors import QuotaExceeded
from deliv.model.file import FileListing, FileResult, FileState, ReportedFile
from deliv.model.job import Delegation, Job, Listing, TransferIdentity
from deliv.model.states import FINAL, Event, Status
from deliv.store import NOW, Delegations, Store, migrations
from deliv.store.archive import first_id
from integration.test_store_archive import DAY, ended, held

pytestmark = pytest.mark.timeout(300)

FEW, MANY = 2_000, 40_000  # jobs that have ended, and as many archived ones
SLACK = 10  # rows
# Handler_icp_attempts: what the storage engine drops by itself does not count as read.
READ = """
SHOW SESSION STATUS
WHERE Variable_name LIKE 'Handler\\_read\\_%' OR Variable_name = 'Handler_icp_attempts'
"""
PRODUCT = "1234567890"
KEY = b"\x01" * 32
NOT_BOUND = {
    "recount": "a repair by hand: it counts the jobs of one submitter",
    "free_destinations": "a repair by hand: it reads what is being written now",
}


@dataclass(frozen=True, kw_only=True)
class World:
    """A database with a history."""

    server: Server
    database: Database
    store: Store
    delegations: Delegations

    async def sample(self, table: str = "jobs", submitter: str = ALICE) -> str:
        """The id of a job of the history."""
        sql = f"SELECT job_id FROM {table} WHERE submitter = %s ORDER BY job_id LIMIT 1"  # noqa: S608
        return str((await self.database.query(sql, submitter))[0]["job_id"])

    async def delegation(self, dn: str, *, expires: timedelta = timedelta(hours=1)) -> Delegation:
        """One that is complete."""
        asked = await self.delegations.keep_request(dn[-6:], dn, "request", dn.encode())
        await self.delegations.accept(
            asked, proxy="proxy", key=dn.encode(), expires=datetime.now(UTC) + expires
        )
        found = await self.delegations.find(dn[-6:])
        assert found is not None
        return found


Call = Callable[[], Awaitable[object]]
Case = Callable[[World], Awaitable[Call]]  # prepares a call
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Name a case: the method's name, then what its arguments are like."""

    def add(prepare: Case) -> Case:
        assert name not in CASES
        CASES[name] = prepare
        return prepare

    return add


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
    while await world.store.admit(LIMITS):
        pass
    return lambda: world.store.admit(LIMITS)


@case("held_by")
async def _(world: World) -> Call:
    job = await submitted(world.store)
    return lambda: world.store.held_by(LIMITS, job)


@case("admit, some wait")
async def _(world: World) -> Call:
    for submitter in (ALICE, BOB):
        await submitted(world.store, submitter=submitter)
    return lambda: world.store.admit(LIMITS)


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


@case("add_files")
async def _(world: World) -> Call:
    job, listed = await admitted(world), [ReportedFile(name="a"), ReportedFile(name="b")]
    return lambda: world.store.add_files(job, REPORT, 1, listed, b"r" * 16)


@case("file_totals")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    return lambda: world.store.file_totals(job, REPORT)


@case("discard_files")
async def _(world: World) -> Call:
    job = await admitted(world)
    await world.store.add_files(job, REPORT, 1, [ReportedFile(name="a")], None)
    return lambda: world.store.discard_files(job.job_id, REPORT, 10)


@case("has_open_files")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    return lambda: world.store.has_open_files(job)


@case("assign")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    return lambda: assigned(world.store, job)


@case("assigned_files")
async def _(world: World) -> Call:
    job = await assigned(world.store, await with_files(world.store, await admitted(world), 3))
    return lambda: world.store.assigned_files(job)


@case("record")
async def _(world: World) -> Call:
    job = await assigned(world.store, await with_files(world.store, await admitted(world), 3))
    results = [FileResult(number=number, state=FileState.FINISHED) for number in (1, 2, 3)]
    return lambda: world.store.record(job, results, files_done=3, fts_jobid=None)


@case("file_groups")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    return lambda: world.store.file_groups(job)


@case("file")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    return lambda: world.store.file(job, 2)


@case("files, of a state")
async def _(world: World) -> Call:
    job = await with_files(world.store, await admitted(world), 3)
    listing = FileListing(state=FileState.WAITING, after=(0, 1), limit=2)
    return lambda: world.store.files(job, listing)


@case("files, archived")
async def _(world: World) -> Call:
    job = await world.store.job(await world.sample("jobs_archive"))
    assert job is not None
    return lambda: world.store.files(job, FileListing(limit=2))


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


@case("copying")
async def _(world: World) -> Call:
    await handed_over(world, copied_as=TransferIdentity.USER)
    return lambda: world.delegations.copying("fts1")


async def admitted(world: World) -> Job:
    """A job in STAGING, whichever waited longest."""
    await submitted(world.store)
    job = await world.store.admit(LIMITS)
    assert job is not None
    return job


async def handed_over(world: World, **changes: object) -> Job:
    """A job that FTS has taken."""
    job = await submitted(world.store, **changes)
    while (now := await world.store.admit(LIMITS)) and now.job_id != job.job_id:
        pass
    assert now is not None
    now = await world.store.apply(now, Event.TRANSFER, delay=None, time_staged=NOW)
    return await world.store.update(now, fts_endpoint="fts1", fts_jobid=job.job_id, fts_posted=NOW)


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


@pytest.fixture(scope="module")
def read() -> Iterator[dict[str, tuple[int, int]]]:
    """For each case how many rows it reads with FEW and with MANY jobs of the past."""
    with running() as server:
        few, many = (asyncio.run(measured(server, count)) for count in (FEW, MANY))
        yield {name: (few[name], many[name]) for name in CASES}


async def measured(server: Server, count: int) -> dict[str, int]:
    server.empty()
    await migrations.migrate(server.settings())
    history(server, count, count, files=2)
    database = Database(server.settings(pool=1))  # one connection, which counts for all
    try:
        world = World(
            server=server, database=database, store=Store(database),
            delegations=Delegations(database),
        )  # fmt: skip
        return {name: await rows_read(world, prepare) for name, prepare in CASES.items()}
    finally:
        database.close()


async def rows_read(world: World, prepare: Case) -> int:
    call = await prepare(world)
    before = await handled(world.database)
    await call()
    return await handled(world.database) - before


async def handled(database: Database) -> int:
    return sum(int(row["Value"]) for row in await database.query(READ))


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_does_not_grow_with_history(
    read: dict[str, tuple[int, int]], name: str
) -> None:
    few, many = read[name]
    assert many <= few + SLACK


def test_every_method_has_a_case() -> None:
    methods = {
        name for part in (Store, Delegations) for name in vars(part) if not name.startswith("_")
    }
    assert methods - NOT_BOUND.keys() == {name.split(",")[0] for name in CASES}
    assert NOT_BOUND.keys() <= methods

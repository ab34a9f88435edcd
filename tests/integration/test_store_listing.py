"""Lists of jobs: what is on a page, in which order, and by which index it is found."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from support.private_mariadb import Server
from support.samples import ALICE, BOB, LIMITS, fill, submitted

from deliv.db.database import Database
from deliv.delivery.retry import Retries
from deliv.delivery.submit import Submissions
from deliv.errors import ListTimeout
from deliv.model.job import Job, Listing
from deliv.model.rest import operators_place
from deliv.model.states import Event, Status
from deliv.store import Store, archive, listing
from integration.test_store_archive import DAY, ended, held


def made(hours: float) -> str:
    """The id of a job that was submitted so many hours ago."""
    then = datetime.now(UTC) - timedelta(hours=hours)
    return archive.first_id(then) + str(uuid.uuid4())[13:]


async def ids(store: Store, wanted: Listing) -> list[str]:
    return [job.job_id for job in await store.page(wanted)]


async def test_the_last_submitted_come_first_page_by_page(store: Store) -> None:
    jobs = [made(hours) for hours in (5, 4, 3, 2, 1)]
    for job_id in jobs:
        await submitted(store, job_id=job_id)
    assert await ids(store, Listing(limit=100)) == jobs[::-1]
    assert await ids(store, Listing(limit=2)) == [jobs[4], jobs[3]]
    assert await ids(store, Listing(limit=2, before=jobs[3])) == [jobs[2], jobs[1]]
    assert await ids(store, Listing(limit=2, before=jobs[0])) == []


async def test_each_filter_keeps_what_it_names(store: Store) -> None:
    mine, other = made(3), made(2)
    await submitted(store, job_id=mine, product_id="x" * 100)
    await submitted(store, job_id=other, product_id="x" * 99 + "y", submitter=BOB)
    assert await ids(store, Listing(limit=9, submitter=ALICE)) == [mine]
    assert await ids(store, Listing(limit=9, product_id="x" * 100)) == [mine]
    assert await ids(store, Listing(limit=9, product_id="x" * 64)) == []
    assert await ids(store, Listing(limit=9, status=Status.SUBMITTED)) == [other, mine]
    assert await ids(store, Listing(limit=9, status=Status.ERROR)) == []
    assert await ids(store, Listing(limit=9, status=Status.SUBMITTED, submitter=BOB)) == [other]


async def test_since_is_within_and_until_is_not(store: Store) -> None:
    noon = datetime(2030, 1, 31, 12, tzinfo=UTC)
    hours = [noon + timedelta(hours=hour) for hour in range(3)]
    jobs = [archive.first_id(hour) + str(uuid.uuid4())[13:] for hour in hours]
    for job_id in jobs:
        await submitted(store, job_id=job_id)
    assert await ids(store, Listing(limit=9, since=hours[1])) == [jobs[2], jobs[1]]
    assert await ids(store, Listing(limit=9, until=hours[1])) == [jobs[0]]
    assert await ids(store, Listing(limit=9, since=hours[1], until=hours[2])) == [jobs[1]]


@pytest.mark.parametrize("year", [1, 9999])
async def test_bounds_far_off(store: Store, year: int) -> None:
    job = await submitted(store)
    far = datetime(year, 1, 1, tzinfo=UTC)
    assert await ids(store, Listing(limit=9, since=far)) == ([job.job_id] if year == 1 else [])
    assert await ids(store, Listing(limit=9, until=far)) == ([] if year == 1 else [job.job_id])


async def test_archived_jobs_are_listed_among_the_others(store: Store, migrated: Server) -> None:
    old = await ended(store, migrated, 40)
    await store.archive(await held(store), 30 * DAY, 100)
    new = await submitted(store, job_id=made(1))
    assert await ids(store, Listing(limit=9)) == [new.job_id, old.job_id]
    assert await ids(store, Listing(limit=1, before=new.job_id)) == [old.job_id]
    assert [event.status for event in await store.events(old.job_id)][-1] is Status.SUCCESS


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Listing(limit=50), "PRIMARY"),
        (Listing(limit=50, since=datetime(2020, 1, 1, tzinfo=UTC)), "PRIMARY"),
        (Listing(limit=50, submitter=ALICE), "listed"),
        (Listing(limit=50, submitter=ALICE, status=Status.ERROR), "submitter_status"),
        (Listing(limit=50, submitter=ALICE, product_id="1", before=made(1)), "submitter_product"),
        (Listing(limit=50, product_id="1234567890"), "requested"),
        (Listing(limit=50, status=Status.SUBMITTED), "standing"),
        (Listing(limit=50, product_id="1", status=Status.SUBMITTED), "product_status"),
        (
            Listing(limit=50, submitter=ALICE, product_id="1", status=Status.SUBMITTED),
            "submitter_product_status",
        ),
    ],
)
async def test_a_page_is_found_by_an_index(
    database: Database, store: Store, migrated: Server, wanted: Listing, index: str
) -> None:
    fill(migrated, ALICE, 500)
    fill(migrated, BOB, 500)
    for table in listing.TABLES:
        sql, values = listing.statement(table, wanted)
        (row,) = await database.query(f"EXPLAIN {sql}", *values)
        assert row["key"] == index
        assert "filesort" not in row["Extra"]


async def test_a_list_that_takes_too_long_is_given_up(
    store: Store, migrated: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And keeps nothing else waiting: its connection goes on."""
    monkeypatch.setattr(listing, "LONGEST", 0.2)
    job = await submitted(store)
    with migrated.admin() as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES deliv.jobs WRITE")
        with pytest.raises(ListTimeout, match="narrow it, by since and until") as raised:
            await store.page(Listing(limit=1))
        assert raised.value.status == 503
        cursor.execute("UNLOCK TABLES")
    assert await ids(store, Listing(limit=1)) == [job.job_id]


async def test_what_a_page_of_jobs_waits_for_is_read_at_once(migrated: Server) -> None:
    """By as many statements as of a single job, whatever hosts they are for."""
    database = Database(migrated.settings(pool=1))  # one connection, which counts for all
    store = Store(database)
    caps = replace(LIMITS, staging=replace(LIMITS.staging, in_flight=0))
    submissions, retries = Submissions(store, DAY, caps), Retries(store)

    async def asked(jobs: Sequence[Job]) -> int:
        before = await selects(database)
        shown = await submissions.as_resting(jobs)
        held = await submissions.held_by(jobs)
        repeated = await retries.repeating(jobs)
        asked = await selects(database) - before
        waiting = [job for job in shown if job.status is Status.SUBMITTED]
        assert {job.waiting_for for job in waiting} == {"operators"}
        assert held.keys() == {job.job_id for job in waiting}
        assert repeated.keys() == {job.job_id for job in jobs} - held.keys()
        return asked

    try:
        jobs = []
        for number in range(20):
            host = f"host{number}.example.org"
            path = f"gsiftp://{host}/data"
            jobs.append(await submitted(store, destination_host=host, destination_path=path))
            await store.begin_rest(operators_place(host), "a disk", None, "root")
            jobs.append(await store.apply(await submitted(store), Event.FAIL))
            await submitted(store, retry_of=jobs[-1].job_id)
        assert await asked(jobs) == await asked(jobs[:2])
    finally:
        database.close()


async def selects(database: Database) -> int:
    (row,) = await database.query("SHOW SESSION STATUS LIKE 'Com_select'")
    return int(row["Value"])

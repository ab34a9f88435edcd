"""Who is served next, with many waiting and at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace
from support.private_mariadb import Server
from support.samples import (
    ALICE,
    BOB,
    HOST,
    LIMITS,
    admitted,
    assigned,
    fill,
    holds,
    submission,
    submitted,
    with_files,
)

from deliv.config import StagingLimits
from deliv.db.database import Connection, Database
from deliv.model.job import Job
from deliv.model.rest import RestRules
from deliv.model.states import Event, Status
from deliv.store import NOW, Store, admission
from integration.rows_read import rows_read

pytestmark = pytest.mark.usefixtures("counted")

CAROL = "/DC=org/DC=example/CN=carol"


def limits(**changes: Any) -> StagingLimits:
    return replace(LIMITS.staging, **changes)


async def admit_all(store: Store, caps: StagingLimits = LIMITS.staging) -> list[Job]:
    jobs = []
    while job := await store.admit(caps):
        jobs.append(job)
    return jobs


async def finish(store: Store, job: Job) -> None:
    await store.apply(job, Event.CANCEL)


async def test_nobody_waits(store: Store) -> None:
    assert await store.admit(LIMITS.staging) is None


async def test_an_admitted_job_is_staging_and_due_now(store: Store) -> None:
    waiting = await submitted(store)
    job = await store.admit(LIMITS.staging)
    assert job is not None
    assert (job.job_id, job.status) == (waiting.job_id, Status.STAGING)
    assert job.due_at == job.time_staging
    assert await store.due(1) == [job.job_id]
    assert await store.claim(job.job_id, 60)


async def test_the_fewest_in_flight_then_the_oldest(store: Store) -> None:
    for submitter in (ALICE, ALICE, ALICE, BOB, BOB, CAROL):
        await submitted(store, submitter=submitter)
    order = [job.submitter for job in await admit_all(store)]
    assert order == [ALICE, BOB, CAROL, ALICE, BOB, ALICE]


async def test_of_one_submitter_the_oldest_over_all_hosts(store: Store) -> None:
    hosts = ["b", "c", "a", "b", "a", "c"]
    jobs = [await submitted(store, destination_host=host) for host in hosts]
    order = [job.job_id for job in await admit_all(store)]
    assert order == [job.job_id for job in jobs]


async def test_no_more_than_the_cap_in_all(store: Store) -> None:
    for submitter in (ALICE, BOB, CAROL):
        await submitted(store, submitter=submitter)
    first, _ = await admit_all(store, limits(in_flight=2))
    await finish(store, first)
    assert len(await admit_all(store, limits(in_flight=2))) == 1


@pytest.mark.parametrize(
    ("full", "said"),
    [
        ({"per_submitter": 2}, "a user may have 2 deliveries in staging at once"),
        ({"per_destination": 2}, f"2 deliveries to {HOST} may be in staging at once"),
        (
            {"per_submitter_and_destination": 2},
            f"a user may have 2 deliveries to {HOST} in staging at once",
        ),
        ({"in_flight": 2}, "2 deliveries of all users may be in staging at once"),
    ],
)
async def test_a_job_that_a_limit_holds_says_which(
    store: Store, full: dict[str, int], said: str
) -> None:
    jobs = [await submitted(store) for _ in range(3)]
    caps = limits(**full)
    assert await holds(store, replace(LIMITS, staging=caps), jobs[2]) is None
    first, _ = await admit_all(store, caps)
    assert await holds(store, replace(LIMITS, staging=caps), jobs[2]) == said
    await finish(store, first)
    assert await holds(store, replace(LIMITS, staging=caps), jobs[2]) is None


async def test_others_are_not_held_by_a_full_submitter_or_destination(store: Store) -> None:
    await submitted(store)
    (running,) = await admit_all(store)
    other = await submitted(store, submitter=BOB, destination_host="free")
    same_host = await submitted(store, submitter=BOB)
    caps = limits(per_submitter=1, per_destination=1, per_submitter_and_destination=1)
    assert running.submitter == ALICE
    assert await holds(store, replace(LIMITS, staging=caps), other) is None
    assert await holds(store, replace(LIMITS, staging=caps), same_host) is not None


async def test_which_limit_holds_is_read_from_counts(database: Database, migrated: Server) -> None:
    fill(migrated, ALICE, 10_000)
    migrated.run("UPDATE jobs SET status = 'STAGING' LIMIT 2000")
    (one,) = await database.query("SELECT job_id FROM jobs WHERE status = 'SUBMITTED' LIMIT 1")
    job = await Store(database).job(one["job_id"])
    assert job is not None
    read = await rows_read(database, lambda tx: [admission.held_by(tx, LIMITS, [job])])
    assert read < 30


async def test_a_full_submitter_does_not_hold_others_up(store: Store) -> None:
    for submitter in (ALICE, ALICE, ALICE, BOB):
        await submitted(store, submitter=submitter)
    order = [job.submitter for job in await admit_all(store, limits(per_submitter=1))]
    assert order == [ALICE, BOB]


async def test_a_full_destination_does_not_hold_others_up(store: Store) -> None:
    for host in ("full", "full", "full", "free"):
        await submitted(store, destination_host=host)
    order = [job.destination_host for job in await admit_all(store, limits(per_destination=1))]
    assert order == ["full", "free"]


async def test_one_submitter_leaves_room_for_others_at_a_destination(store: Store) -> None:
    for _ in range(4):
        await submitted(store)
    caps = limits(per_destination=4, per_submitter_and_destination=2)
    assert len(await admit_all(store, caps)) == 2
    other = await submitted(store, submitter=BOB)
    assert [job.job_id for job in await admit_all(store, caps)] == [other.job_id]


async def test_a_submitter_whose_share_is_used_up_goes_on_elsewhere(store: Store) -> None:
    for host in ("a", "a", "b"):
        await submitted(store, destination_host=host)
    caps = limits(per_submitter_and_destination=1)
    assert [job.destination_host for job in await admit_all(store, caps)] == ["a", "b"]


async def test_a_crowd_whose_shares_are_used_up_does_not_hold_others_up(store: Store) -> None:
    caps = limits(per_submitter_and_destination=1)
    for number in range(120):  # more than an admission looks at
        for _ in range(2):
            await submitted(store, submitter=f"/CN={number}")
    assert len(await admit_all(store, caps)) == 120
    late = await submitted(store, submitter=BOB)
    assert [job.job_id for job in await admit_all(store, caps)] == [late.job_id]


async def test_a_crowd_at_a_full_destination_does_not_hold_others_up(store: Store) -> None:
    caps = limits(per_destination=1)
    for host in ("full", "full, too"):
        await submitted(store, destination_host=host)
    assert len(await admit_all(store, caps)) == 2
    for number in range(120):  # more than an admission looks at
        for host in ("full", "full, too"):
            await submitted(store, submitter=f"/CN={number}", destination_host=host)
    late = await submitted(store, submitter=BOB, destination_host="free")
    assert [job.job_id for job in await admit_all(store, caps)] == [late.job_id]


async def test_a_job_counts_until_it_is_handed_to_fts(store: Store) -> None:
    await submitted(store)
    await submitted(store)
    job = await store.admit(LIMITS.staging)
    assert job is not None
    job = await store.apply(job, Event.STAGED, time_staged=NOW)
    assert await store.admit(limits(per_submitter=1)) is None
    await store.apply(job, Event.TRANSFER)
    assert await store.admit(limits(per_submitter=1)) is not None


async def test_who_is_not_due_yet_is_passed_over(store: Store) -> None:
    early, late = await submitted(store), await submitted(store)
    await store.update(early, delay=3600)
    assert [job.job_id for job in await admit_all(store)] == [late.job_id]


async def test_nobody_is_admitted_after_the_deadline(store: Store, database: Database) -> None:
    """Also not the first of its submitter and host, of whom the choice knows the due time alone."""
    late, good, early = [await submitted(store) for _ in range(3)]
    for job, seconds in ((late, -1), (early, 3600)):
        sql = "UPDATE jobs SET deadline = NOW(6) + INTERVAL %s SECOND WHERE job_id = %s"
        await database.execute(sql, seconds, job.job_id)
    admitted = await admit_all(store)
    assert [job.job_id for job in admitted] == [good.job_id, early.job_id]


async def test_a_job_locked_by_another_is_passed_over(
    store: Store, database: Database, migrated: Server
) -> None:
    locked, free = await submitted(store), await submitted(store)
    with migrated.admin() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        sql = "SELECT * FROM deliv.jobs WHERE job_id = %s FOR UPDATE"
        cursor.execute(sql, (locked.job_id,))
        async with asyncio.timeout(60):
            job = await store.admit(LIMITS.staging)
    assert job is not None
    assert job.job_id == free.job_id


async def test_many_at_once_never_pass_a_cap(store: Store) -> None:
    hosts = ["a", "b", "c"]
    requests = [
        submission(submitter=submitter, destination_host=host)
        for submitter in (ALICE, BOB, CAROL)
        for host in hosts * 4
    ]
    await asyncio.gather(*map(store.submit, requests))
    caps = limits(in_flight=14, per_submitter=6, per_destination=5)
    answers = await asyncio.gather(*(store.admit(caps) for _ in range(40)))
    jobs = [job for job in answers if job is not None]
    assert len({job.job_id for job in jobs}) == len(jobs) == 14
    assert max(Counter(job.submitter for job in jobs).values()) <= 6
    assert max(Counter(job.destination_host for job in jobs).values()) == 5


async def test_admissions_that_wait_leave_the_database_to_others(
    store: Store, migrated: Server
) -> None:
    """Each would hold a connection while another instance's admission is under way."""
    job = await submitted(store)
    with migrated.admin() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT fence FROM deliv.leases WHERE name = 'admission' FOR UPDATE")
        admissions = [asyncio.create_task(store.admit(LIMITS.staging)) for _ in range(40)]
        while not waiting_for_admission(migrated):
            await asyncio.sleep(0.01)
        assert await store.job(job.job_id)
        assert waiting_for_admission(migrated) == 1
        cursor.execute("ROLLBACK")
    assert sum(admitted is not None for admitted in await asyncio.gather(*admissions)) == 1


async def test_turns_that_wait_leave_the_database_to_others(store: Store, migrated: Server) -> None:
    jobs = [await with_files(store, await admitted(store), 1) for _ in range(10)]
    with migrated.admin() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT fence FROM deliv.leases WHERE name = 'admission' FOR UPDATE")
        turns = [asyncio.create_task(assigned(store, job)) for job in jobs]
        while not waiting_for_admission(migrated):
            await asyncio.sleep(0.01)
        assert await store.job(jobs[0].job_id)
        assert waiting_for_admission(migrated) == 1
        cursor.execute("ROLLBACK")
    assert all(job.fts_jobid for job in await asyncio.gather(*turns))


async def test_a_look_in_vain_is_that_of_all_who_asked_before_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one began before the others asked."""
    looks = []

    def look(tx: Connection, caps: StagingLimits, rules: RestRules) -> Job | None:
        looks.append(admit(tx, caps, rules))
        return looks[-1]

    admit = admission.admit
    monkeypatch.setattr(admission, "admit", look)
    assert await asyncio.gather(*(store.admit(LIMITS.staging) for _ in range(40))) == [None] * 40
    assert len(looks) == 2
    job = await submitted(store)
    found = [
        one.job_id
        for one in await asyncio.gather(*(store.admit(LIMITS.staging) for _ in "123"))
        if one
    ]
    assert found == [job.job_id]
    assert len(looks) == 2 + 2


def waiting_for_admission(server: Server) -> int:
    sql = "SELECT COUNT(*) AS count FROM information_schema.processlist WHERE info LIKE %s"
    with server.admin() as connection, connection.cursor() as cursor:
        cursor.execute(sql, (f"{admission.LOCK.partition('%')[0]}%",))
        (row,) = cursor.fetchall()
    return int(row["count"])


async def test_ten_thousand_jobs_of_one_delay_another_by_the_slots_in_flight(
    store: Store, migrated: Server
) -> None:
    fill(migrated, ALICE, 10_000)
    caps = limits(in_flight=20)
    running = await admit_all(store, caps)
    assert len(running) == 20
    late = await submitted(store, submitter=BOB)
    served = 0
    while late.job_id not in {job.job_id for job in running}:
        await finish(store, running.pop(0))
        admitted = await store.admit(caps)
        assert admitted is not None
        running.append(admitted)
        served += 1
    assert served == 1


@pytest.mark.parametrize("in_flight", [0, 2000])
async def test_an_admission_reads_neither_what_is_in_staging_nor_what_waits(
    database: Database, migrated: Server, in_flight: int
) -> None:
    fill(migrated, ALICE, 10_000)
    fill(migrated, BOB, 1, host="elsewhere.example.org")
    sql = "UPDATE jobs SET status = 'STAGING' WHERE submitter LIKE '%alice' LIMIT "
    migrated.run(sql + str(in_flight))
    caps = limits(in_flight=in_flight + 100)
    read = await rows_read(database, lambda tx: admission.admit(tx, caps, RestRules()))
    assert read < 100


async def test_the_choice_reads_pairs_not_jobs(database: Database, migrated: Server) -> None:
    fill(migrated, ALICE, 10_000)
    fill(migrated, CAROL, 10_000)
    hosts = {"a", "z"}
    for sql, parameters in (
        *(
            (sql, (*closed, 100, admission.PAGE))
            for sql, closed in (
                admission.submitters((), {}),
                admission.submitters(hosts, {}),
                admission.submitters(hosts, {ALICE: hosts, BOB: hosts}),
            )
        ),
        (admission.HOSTS, (ALICE, 100)),
    ):
        explained = await database.query("EXPLAIN " + sql, *parameters)
        assert any(row["key"] == "turn" and "for group-by" in row["Extra"] for row in explained)
    (row,) = await database.query("EXPLAIN " + admission.OLDEST, ALICE, HOST, datetime.now(UTC))
    assert row["key"] == "turn"
    assert "filesort" not in row["Extra"]


async def test_one_submitters_many_hosts_cost_no_more(database: Database, migrated: Server) -> None:
    fill(migrated, ALICE, 20_000)
    migrated.run("UPDATE jobs SET destination_host = CONCAT('h', job_id)")
    read = await rows_read(database, lambda tx: admission.admit(tx, LIMITS.staging, RestRules()))
    assert read < 5 * admission.MORE_HOSTS

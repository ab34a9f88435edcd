"""Nothing is lost and nothing done twice when a connection or the server breaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from support.private_mariadb import Server
from support.samples import LIMITS, admitted, submission, submitted

from deliv.db.database import Database
from deliv.errors import CommitUnknown, DatabaseUnavailable, LostRace
from deliv.model.states import Event, Status
from deliv.store import NOW, Store
from integration.cutting_proxy import Cut, Proxy

CUTS = pytest.mark.parametrize("cut", list(Cut), ids=lambda cut: cut.name)


@pytest.fixture
def proxy(migrated: Server) -> Iterator[Proxy]:
    proxy = Proxy(migrated.database.host, migrated.database.port)
    yield proxy
    proxy.close()


@pytest.fixture
def cut_store(proxy: Proxy, migrated: Server) -> Iterator[Store]:
    """A store whose connections go through the proxy."""
    database = Database(migrated.settings(port=proxy.port))
    yield Store(database)
    database.close()


def later(proxy: Proxy) -> None:
    """Let the COMMIT that was held back through, while the store looks what became of it."""
    asyncio.get_running_loop().call_later(0.5, proxy.late.set)


async def events(store: Store, job_id: str) -> list[tuple[Status, bool]]:
    return [(event.status, event.staged) for event in await store.events(job_id)]


@CUTS
async def test_a_commit_of_unknown_fate_is_never_run_blindly(
    proxy: Proxy, migrated: Server, cut: Cut
) -> None:
    runs = []
    database = Database(migrated.settings(port=proxy.port))
    await database.check_ready()
    proxy.arm(cut)
    proxy.late.set()
    with pytest.raises(CommitUnknown):
        await database.transaction(
            lambda tx: runs.append(
                tx.execute("INSERT INTO leases (name, owner, fence) VALUES ('a', 'b', 1)")
            )
        )
    assert len(runs) == 1
    database.close()


async def test_a_reader_does_not_care_about_its_commit(proxy: Proxy, cut_store: Store) -> None:
    job = await submitted(cut_store)
    proxy.arm(Cut.BEFORE, Cut.AFTER)
    assert await cut_store.job(job.job_id) == job
    assert proxy.cuts == 2


@CUTS
@pytest.mark.parametrize("key", [None, "key"])
async def test_a_submission_stands_once(
    proxy: Proxy, cut_store: Store, store: Store, cut: Cut, key: str | None
) -> None:
    request = submission(idempotency_key=key, quota=1)
    await cut_store.counts()
    proxy.arm(cut)
    later(proxy)
    job, created = await cut_store.submit(request)
    assert created
    assert proxy.cuts == 1
    assert await store.job(request.job_id) == job
    assert (await store.counts())[Status.SUBMITTED] == 1
    assert len(await store.events(job.job_id)) == 1
    assert [row.routing for row in await store.outbox_take(10, 0)] == ["stage", "event"]


@CUTS
async def test_a_transition_stands_once(
    proxy: Proxy, cut_store: Store, store: Store, cut: Cut
) -> None:
    job = await admitted(cut_store)
    proxy.arm(cut)
    later(proxy)
    changed = await cut_store.apply(
        job, Event.STAGED, wake=("transfer",), time_staged=NOW, stager_path="/copy", delay=7
    )
    assert proxy.cuts == 1
    assert changed.version == job.version + 1
    assert await store.job(job.job_id) == changed
    assert (await events(store, job.job_id))[2:] == [(Status.STAGING, True)]
    rows = [row.routing for row in await store.outbox_take(10, 0)]
    assert Counter(rows) == {"stage": 1, "transfer": 1, "event": 3}


@CUTS
async def test_an_update_stands_once(
    proxy: Proxy, cut_store: Store, store: Store, cut: Cut
) -> None:
    job = await admitted(cut_store)
    proxy.arm(cut)
    later(proxy)
    changed = await cut_store.update(job, delay=None, stager_status="\ud800", fts_posted=NOW)
    assert (changed.version, changed.stager_status) == (job.version + 1, "?")
    assert await store.job(job.job_id) == changed


async def test_what_another_did_meanwhile_is_a_lost_race(
    proxy: Proxy, cut_store: Store, store: Store
) -> None:
    job = await admitted(cut_store)
    proxy.arm(Cut.LATE)
    ours = asyncio.ensure_future(cut_store.apply(job, Event.STAGED, time_staged=NOW))
    async with asyncio.timeout(60):
        while not proxy.cuts:
            await asyncio.sleep(0.005)
    theirs = asyncio.ensure_future(store.apply(job, Event.CANCEL))
    proxy.late.set()
    results = await asyncio.gather(ours, theirs, return_exceptions=True)
    assert sum(isinstance(result, LostRace) for result in results) == 1
    assert len(await events(store, job.job_id)) == 3


async def test_commits_that_stay_unknown_are_reported(
    proxy: Proxy, cut_store: Store, store: Store
) -> None:
    await cut_store.counts()
    proxy.arm(*[Cut.BEFORE] * 4)
    with pytest.raises(CommitUnknown):
        await cut_store.submit(submission())
    assert (await store.counts())[Status.SUBMITTED] == 0


async def test_of_an_unknown_commit_nothing_else_is_said(proxy: Proxy, migrated: Server) -> None:
    """It was made, and that can't be looked up, as MariaDB is gone."""
    database = Database(migrated.settings(port=proxy.port))
    store = Store(database)
    await store.counts()
    proxy.arm(Cut.AFTER)
    request = submission()
    given = asyncio.ensure_future(store.submit(request))
    async with asyncio.timeout(60):
        while not proxy.cuts:
            await asyncio.sleep(0)
    proxy.close()
    with pytest.raises(CommitUnknown):
        await given
    database.close()
    rows = migrated.run(f"SELECT status FROM jobs WHERE job_id = '{request.job_id}'")  # noqa: S608
    assert [row["status"] for row in rows] == ["SUBMITTED"]


async def test_killed_under_load_no_answer_is_lost_and_no_job_doubled(
    store: Store, migrated: Server
) -> None:
    """Everything that was answered is there, once; what is there was asked for."""
    stopping, asked, answered = asyncio.Event(), list[str](), list[str]()

    async def submit_for_ever() -> None:
        while not stopping.is_set():
            request = submission()
            asked.append(request.job_id)
            try:
                job, created = await store.submit(request)
            except DatabaseUnavailable:
                await asyncio.sleep(0.02)
                continue
            assert created
            answered.append(job.job_id)

    async def work_for_ever() -> None:
        while not stopping.is_set():
            try:
                if job := await store.admit(LIMITS.staging):
                    job = await store.apply(job, Event.STAGED, time_staged=NOW, wake=("transfer",))
                    job = await store.apply(job, Event.TRANSFER)
                    await store.apply(job, Event.DELIVER)
            except (DatabaseUnavailable, LostRace):
                await asyncio.sleep(0.02)

    load = [asyncio.ensure_future(submit_for_ever()) for _ in range(6)]
    load += [asyncio.ensure_future(work_for_ever()) for _ in range(2)]
    for _ in range(4):
        before = len(answered)
        async with asyncio.timeout(120):
            while len(answered) < before + 60:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(migrated.kill)
        await asyncio.to_thread(migrated.start)
    stopping.set()
    await asyncio.gather(*load)
    rows = migrated.run("SELECT job_id, status, version FROM jobs")
    there = {row["job_id"] for row in rows}
    assert set(answered) <= there <= set(asked)
    assert len(answered) == len(set(answered)) >= 240
    assert_whole(migrated)


def assert_whole(server: Server) -> None:
    """Each job has one event and one outbox row for each transition that its version counts."""
    steps = {"SUBMITTED": 1, "STAGING": 2, "TRANSFERRING": 4, "SUCCESS": 5}
    rows = server.run(
        """
        SELECT jobs.status, jobs.version,
          (SELECT COUNT(*) FROM job_events AS e WHERE e.job_id = jobs.job_id) AS events,
          (SELECT COUNT(*) FROM outbox AS o WHERE o.job_id = jobs.job_id AND routing = 'event')
            AS outbox
        FROM jobs
        """
    )
    for row in rows:
        assert row["events"] == row["outbox"] == row["version"] + 1
        if row["status"] != "STAGING":
            assert row["events"] == steps[row["status"]]
    assert rows

"""`deliv check` on a real MariaDB, with data as it should be and as it should not."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs
from support.private_mariadb import Server
from support.samples import (
    ALICE,
    LIMITS,
    admitted,
    assigned,
    fill,
    staged,
    submitted,
    transferring,
    with_files,
)

from deliv import config
from deliv.assembly import build
from deliv.commands.check import command
from deliv.commands.check import run as checking
from deliv.commands.check.findings import Finding, Fix, Unchecked
from deliv.commands.check.run import Run
from deliv.commands.check.stager import StagerCheck
from deliv.config import Config
from deliv.db.database import Database
from deliv.gateways.https import HttpsClient
from deliv.gateways.stager import Stager
from deliv.model.job import Job
from deliv.model.states import Event
from deliv.store import NOW, Fence, Store
from deliv.store.inspection import Inspection

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"
NOBODY = config.HttpsUrl("https://127.0.0.1:1")


@pytest.fixture
def settings(migrated: Server) -> Config:
    """A stager and an FTS that do not answer."""
    example = config.load(EXAMPLE)
    return structs.replace(
        example,
        database=migrated.settings(),
        stager=structs.replace(example.stager, url=NOBODY),
        fts=structs.replace(example.fts, endpoints={"fts1": NOBODY}),
    )


class Checking:
    """Runs of the check, and their repairs."""

    def __init__(self, settings: Config, database: Database) -> None:
        self._parts = build(settings)
        self._parts.database = database
        self._parts.https = self.https = HttpsClient(None, settings.ca_directory)
        self._parts.delegating = None
        self.repair = command.repair(self._parts)

    def new_run(self) -> Run:
        return command.run(self._parts)

    async def findings(self) -> list[Finding]:
        return [finding async for finding in self.new_run().findings()]

    async def said(self) -> list[tuple[str, str | None]]:
        return [(finding.rule, finding.job_id) for finding in await self.findings()]


@pytest.fixture
def check(settings: Config, database: Database) -> Iterator[Checking]:
    check = Checking(settings, database)
    yield check
    check.https.close()


def of(job: Job, statement: str) -> str:
    return f"{statement} WHERE job_id = '{job.job_id}'"


async def handed_over(store: Store) -> Job:
    """A job that FTS has taken; its destination is not kept, which the check must see."""
    job = await transferring(store)
    return await store.update(
        job, delay=None, fts_jobid=str(uuid.uuid4()), fts_endpoint="fts1", fts_posted=NOW,
        stager_hostname="archive.example.org",
    )  # fmt: skip


async def test_jobs_in_order(store: Store, check: Checking) -> None:
    """Without stager and FTS the check says what it could not see."""
    await staged(store)
    job = await store.apply(await admitted(store), Event.CANCEL)
    await store.update(job, delay=None, time_released=NOW)
    await submitted(store)
    run = check.new_run()
    assert [finding async for finding in run.findings()] == []
    assert (run.counts.jobs, run.counts.archived, run.counts.events) == (3, 0, 7)
    assert [text.split(":")[0] for text in run.unchecked] == ["the stager", "FTS fts1"]


async def test_the_archive_is_checked_too(store: Store, check: Checking, migrated: Server) -> None:
    job = await submitted(store, job_id=f"00{str(uuid.uuid4())[2:]}")  # as of long ago
    job = await store.apply(job, Event.CANCEL)
    await store.update(job, delay=None)
    number = await store.lease("retention", "me", 60)
    assert number is not None
    fence = Fence(name="retention", owner="me", number=number)
    assert await store.archive(fence, 0, 10) == 1
    run = check.new_run()
    assert [finding async for finding in run.findings()] == []
    assert (run.counts.jobs, run.counts.archived, run.counts.events) == (0, 1, 2)
    migrated.rewrite("DELETE FROM job_events_archive LIMIT 1")
    assert await check.said() == [("history", job.job_id)]


async def test_what_is_broken_is_found_and_mended_where_it_is_safe(
    store: Store, check: Checking, migrated: Server
) -> None:
    idle, code, lost = await admitted(store), await staged(store), await handed_over(store)
    await submitted(store)
    migrated.run(
        of(idle, "UPDATE jobs SET due_at = NULL"),
        of(code, "UPDATE jobs SET stager_callback = REPEAT('ab', 16)"),
        "DELETE FROM leases WHERE name = 'admission'",
        "INSERT INTO leases VALUES ('poll:old', 'x', 1, NOW(6) - INTERVAL 1 DAY)",
        "UPDATE outbox SET created = NOW(6) - INTERVAL 1 DAY LIMIT 2",
    )
    findings = await check.findings()
    assert {(f.rule, f.job_id or f.subject, f.fix) for f in findings} == {
        ("due", idle.job_id, Fix.DUE),
        ("code", code.job_id, Fix.CODE),
        ("writer", lost.job_id, None),
        ("lease", "admission", Fix.ADMISSION),
        ("lease", "poll:old", Fix.LEASE),
        ("outbox", None, None),
    }
    assert [(await check.repair.repair(f))[0] for f in findings] == [bool(f.fix) for f in findings]
    assert {rule for rule, _ in await check.said()} == {"writer", "outbox"}
    assert idle.job_id in await store.due(10)


async def test_a_job_that_changed_meanwhile_is_not_mended(
    store: Store, check: Checking, migrated: Server
) -> None:
    job = await admitted(store)
    migrated.run("UPDATE jobs SET due_at = NULL")
    (finding,) = await check.findings()
    changed = await store.update(job, stager_status="on its way")
    assert await check.repair.repair(finding) == (
        False, "not repaired: it has changed meanwhile, look again",
    )  # fmt: skip
    assert await store.job(job.job_id) == changed


async def test_histories_without_a_job_and_jobs_without_a_history(
    store: Store, check: Checking, migrated: Server
) -> None:
    jobs = sorted([await submitted(store) for _ in range(6)], key=lambda job: job.job_id)
    gone, mute = jobs[0], jobs[3]
    migrated.rewrite(
        of(gone, "DELETE FROM jobs"),
        of(mute, "DELETE FROM job_events"),
        "INSERT INTO job_events (job_id, submitter, status, attempt, staged)"
        " VALUES ('zzz', '/CN=a', 'SUBMITTED', 1, 0)",
    )
    expected = {("history", gone.job_id), ("history", mute.job_id), ("history", "zzz")}
    assert set(await check.said()) == expected


async def test_ids_that_only_one_may_have(store: Store, check: Checking, migrated: Server) -> None:
    first, second = await handed_over(store), await handed_over(store)
    migrated.rewrite(
        "UPDATE jobs SET fts_jobid = 'same'",
        of(first, "INSERT INTO jobs_archive SELECT * FROM jobs"),
        of(first, "INSERT INTO job_events_archive SELECT * FROM job_events"),
    )
    said = await check.said()
    assert ("transfer", min(first.job_id, second.job_id)) in said
    assert said.count(("archive", first.job_id)) == 2  # in both tables, and not at its end


async def test_wrong_counts_are_found_and_counted_again(
    store: Store, check: Checking, migrated: Server
) -> None:
    await staged(store)
    await submitted(store, submitter="/CN=uncounted")
    migrated.run(
        "UPDATE submitter_jobs SET staging = 0, error = 7 WHERE submitter <> '/CN=uncounted'",
        "DELETE FROM submitter_jobs WHERE submitter = '/CN=uncounted'",
        "INSERT INTO submitter_jobs (submitter, success) VALUES ('/CN=gone', 1)",
    )
    findings = await check.findings()
    assert {finding.rule for finding in findings} == {"counts"}
    assert {finding.subject for finding in findings} == {ALICE, "/CN=uncounted", "/CN=gone"}
    assert [(await check.repair.repair(finding))[0] for finding in findings] == [True] * 3
    assert await check.findings() == []
    counts = await store.counts()
    assert (counts["STAGING"], sum(counts.values())) == (1, 2)


async def test_what_is_wrong_with_files_is_found_and_repaired_where_it_is_safe(
    store: Store, check: Checking, migrated: Server
) -> None:
    waiting = await with_files(store, await admitted(store), 3)
    gone = await with_files(store, await admitted(store), 2)
    lost = await assigned(store, await with_files(store, await admitted(store), 2))
    lost = await store.update(lost, stager_hostname="archive.example.org")
    empty = await with_files(store, await admitted(store), 2)
    for _ in range(2):
        empty = await assigned(store, empty, 1)
    empty = await store.update(empty, stager_hostname="archive.example.org")
    assert await check.findings() == []
    migrated.rewrite(
        of(waiting, "UPDATE jobs SET files_done = 2"),
        of(gone, "DELETE FROM jobs"),
        of(gone, "DELETE FROM job_events"),
        of(lost, "UPDATE jobs SET fts_jobid = NULL, fts_endpoint = NULL"),
        of(empty, "UPDATE job_files SET slice = slice + 7"),
        "INSERT INTO destination_writers VALUES (REPEAT('k', 32), 'nobody')",
    )
    findings = await check.findings()
    assert {(f.rule, f.job_id, f.fix) for f in findings} == {
        ("files", waiting.job_id, Fix.FILES),
        ("files", gone.job_id, Fix.STRAY_FILES),
        ("files", lost.job_id, None),
        ("files", empty.job_id, None),
        ("destination", "nobody", Fix.WRITER),
    }
    assert [(await check.repair.repair(f))[0] for f in findings] == [bool(f.fix) for f in findings]
    assert await check.said() == [("files", lost.job_id), ("files", empty.job_id)]


async def test_a_job_whose_place_is_gone_goes_on(
    store: Store, check: Checking, migrated: Server
) -> None:
    job = await submitted(store)
    migrated.run(
        of(job, "UPDATE jobs SET rest = REPEAT('r', 16), due_at = NOW(6) + INTERVAL 1 DAY"),
    )
    (finding,) = await check.findings()
    assert (finding.rule, finding.job_id, finding.fix) == ("rest", job.job_id, Fix.REST)
    assert (await check.repair.repair(finding))[0]
    assert await check.findings() == []
    assert (await store.admit(LIMITS.staging)) is not None


async def test_a_lease_that_nobody_renews_is_told_while_it_has_an_owner(
    check: Checking, store: Store, migrated: Server
) -> None:
    await store.lease("sweep", "somebody", 30)
    assert await check.findings() == []
    migrated.run("UPDATE leases SET expires = NOW(6) - INTERVAL 1 HOUR")
    (finding,) = await check.findings()
    assert "no instance does 'sweep'" in finding.text
    await store.release_all("somebody")
    migrated.run("UPDATE leases SET expires = NOW(6) - INTERVAL 1 HOUR")
    assert await check.findings() == []


async def test_whom_fts_has_to_be_asked_as(store: Store, check: Checking, migrated: Server) -> None:
    """Whoever has delegated, and whoever's transfers are still copied without that."""
    job = await handed_over(store)
    migrated.run(
        of(job, "UPDATE jobs SET copied_as = 'user'"),
        "INSERT INTO delegations (delegation_id, dn, expires) VALUES"
        " ('1', '/CN=now', NOW(6) + INTERVAL 1 HOUR), ('2', '/CN=then', NOW(6) - INTERVAL 1 HOUR)",
    )
    run = check.new_run()
    assert [finding.rule async for finding in run.findings()] == ["writer"]
    assert [text.split(": ")[0] for text in run.unchecked] == [
        "the stager", "FTS fts1", "FTS fts1 for /CN=now", f"FTS fts1 for {job.submitter}",
    ]  # fmt: skip


async def test_a_stager_without_a_list_is_asked_about_single_jobs(
    store: Store, settings: Config, database: Database, check: Checking, migrated: Server
) -> None:
    """Where it tells nothing about them either, nothing is concluded."""
    jobs = [await admitted(store) for _ in range(3)]
    for job in jobs:
        await store.update(job, stager_accepted=NOW, stager_callback="ab" * 16)
    migrated.run("UPDATE jobs SET stager_accepted = stager_accepted - INTERVAL 1 MINUTE")
    stager = Telling({jobs[0].job_id, jobs[1].job_id}, settings, check.https)
    found = [finding async for finding in StagerCheck(Inspection(database), stager).findings()]
    assert {(finding.job_id, finding.doubtful) for finding in found} == {
        (job.job_id, job is not jobs[2]) for job in jobs
    }
    assert {finding.fix for finding in found} == {Fix.ASK}
    with pytest.raises(Unchecked, match="tells nothing"):
        mute = StagerCheck(Inspection(database), Telling(set(), settings, check.https))
        assert [finding async for finding in mute.findings()]


class Telling(Stager):
    """A stager that has no list, but knows of some jobs."""

    def __init__(self, job_ids: set[str], settings: Config, https: HttpsClient) -> None:
        super().__init__(settings.stager, https, f"{NOBODY}/doneStaging")
        self._job_ids = job_ids

    async def listing(self) -> None:
        return None

    async def holds(self, job_id: str) -> bool:
        return job_id in self._job_ids


async def test_it_goes_page_by_page(
    check: Checking, migrated: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "PAGE", 7)
    fill(migrated, "/CN=many", 100)
    run = check.new_run()
    assert [finding async for finding in run.findings()] == []
    assert (run.counts.jobs, run.counts.events) == (100, 100)


async def test_it_changes_nothing(store: Store, check: Checking, migrated: Server) -> None:
    await staged(store)
    migrated.run("UPDATE jobs SET due_at = NULL", "DELETE FROM leases")
    tables = ("jobs", "job_events", "outbox", "leases", "jobs_archive", "job_events_archive")
    sums = f"CHECKSUM TABLE {', '.join(tables)}"
    before = migrated.run(sums)
    assert await check.findings()
    assert migrated.run(sums) == before

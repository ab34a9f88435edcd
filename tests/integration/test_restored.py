"""The database is of the past, the stager and FTS are not: what `deliv check` does about it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from support.private_mariadb import Server
from support.samples import admitted, staged, submitted, transferring, with_files

from deliv.commands.check import command
from deliv.commands.check.findings import Finding, Fix
from deliv.commands.check.fts import FtsCheck
from deliv.commands.check.stager import StagerCheck
from deliv.db.database import Database
from deliv.delivery.endpoints import sid
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.states import Event, Status
from deliv.store import NOW, Store
from deliv.store.inspection import Inspection
from integration.fts_bench import Bench, bench
from integration.scripted_fts import Grid, Reply, reply
from integration.test_stager_gateway import stagers, staging

Opened = AbstractAsyncContextManager[Bench]


@pytest.fixture
def opened(grid: Grid, database: Database, tmp_path: Path) -> Opened:
    return bench(grid, database, tmp_path)


async def waiting(store: Store) -> Job:
    job = await admitted(store)
    return await store.update(job, stager_callback="ab" * 16, stager_accepted=NOW)


async def staged_here(store: Store) -> Job:
    return await store.update(await staged(store), stager_hostname="archive.example.org")


async def to_copy_again(store: Store) -> Job:
    job = await store.update(await transferring(store), stager_hostname="archive.example.org")
    return await store.apply(job, Event.RETRANSFER, attempt=2)


AT_THE_BACKUP = pytest.mark.parametrize(
    "at_the_backup",
    [submitted, admitted, waiting, staged_here, to_copy_again],
    ids=["queued", "asking the stager", "waiting for the stager", "staged", "to be copied again"],
)
Backup = Callable[[Store], Awaitable[Job]]


async def works_on(here: Bench, job: Job) -> str:
    """FTS works on the transfer of this job's attempt, and knows it when it is posted again."""
    fts_id = await here.endpoint.job_id(sid(job))
    metadata = {"deliv_job_id": job.job_id, "attempt": job.attempt, "slice": job.slice}
    shown = {"job_id": fts_id, "job_state": "ACTIVE", "job_metadata": metadata}
    here.server.on("GET", "/jobs", reply([{"job_id": fts_id, "job_state": "ACTIVE"}]))
    here.server.on("GET", f"/jobs/{fts_id}", reply(shown))
    here.server.on("DELETE", f"/jobs/{fts_id}", reply(shown | {"job_state": "CANCELED"}))
    here.server.on("POST", "/jobs", reply({"message": "it is there"}, 409))
    return fts_id


async def found(here: Bench) -> list[Finding]:
    inspection = Inspection(here.parts.database)
    check = FtsCheck(inspection, here.store, here.endpoint)
    return [finding async for finding in check.findings()]


async def repaired(here: Bench) -> list[Fix | None]:
    findings = await found(here)
    fixer = command.repair(here.parts)
    assert all([(await fixer.repair(finding))[0] for finding in findings])
    return [finding.fix for finding in findings]


async def brought_to_fts(here: Bench, job: Job) -> Job:
    """What the engine does from there."""
    if job.status is Status.SUBMITTED:
        job = await here.store.apply(job, Event.ADMIT)
    if job.time_staged is None:
        place = {"stager_hostname": "archive.example.org", "stager_path": "/copy/a file.fits"}
        job = await here.store.apply(job, Event.STAGED, time_staged=NOW, **place)
    await here.transfers.start(job)
    return await here.now(job)


async def test_a_later_transfer_of_a_job_with_many_files_is_not_stopped(opened: Opened) -> None:
    """The job comes there by those before it, which FTS has already."""
    async with opened as here:
        job = await with_files(here.store, await admitted(here.store), 15)
        await works_on(here, replace(job, slice=1))
        assert await repaired(here) == [Fix.TAKE_OVER]
        assert await found(here) == []
        here.server.on("POST", "/jobs", reply({"job_id": await here.endpoint.job_id(sid(job))}))
        job = await here.store.update(await here.now(job), stager_hostname="archive.example.org")
        await here.transfers.start(job)
        job = await here.now(job)
        assert (phase(job), job.fts_endpoint, job.slice) == (Phase.COPYING, "fts1", 0)
        assert not [asked for asked in here.server.asked if asked.method == "DELETE"]


@AT_THE_BACKUP
async def test_what_an_unfinished_job_will_ask_for_is_taken_over(
    opened: Opened, at_the_backup: Backup
) -> None:
    async with opened as here:
        job = await at_the_backup(here.store)
        fts_id = await works_on(here, job)
        assert await repaired(here) == [Fix.TAKE_OVER]
        assert await found(here) == []
        job = await brought_to_fts(here, await here.now(job))
        assert (phase(job), job.fts_jobid, job.fts_endpoint) == (Phase.COPYING, fts_id, "fts1")
        assert not [asked for asked in here.server.asked if asked.method == "DELETE"]


@AT_THE_BACKUP
async def test_the_job_is_brought_to_the_later_attempt_that_fts_works_on(
    opened: Opened, at_the_backup: Backup
) -> None:
    """Its earlier attempts may have ended before FTS heard of them: it must not ask for those."""
    async with opened as here:
        job = await at_the_backup(here.store)
        later = replace(job, attempt=job.attempt + 2)
        fts_id = await works_on(here, later)
        assert await repaired(here) == [Fix.TAKE_OVER]
        assert await found(here) == []
        job = await here.now(job)
        assert (job.attempt, job.copy_begun, job.partial) == (later.attempt, False, True)
        page = await Inspection(here.parts.database).page("", 10)
        (record,) = page.records
        assert [step.attempt for step in record.steps][-1] == later.attempt
        job = await brought_to_fts(here, job)
        assert (phase(job), job.fts_jobid, job.partial) == (Phase.COPYING, fts_id, True)
        assert json.loads(here.server.calls("POST", "/jobs")[-1].body)["params"]["overwrite"] in {
            False,
            None,
        }


async def test_what_an_earlier_attempt_left_at_fts_is_withdrawn(opened: Opened) -> None:
    async with opened as here:
        job = await to_copy_again(here.store)
        fts_id = await works_on(here, replace(job, attempt=1))
        assert await repaired(here) == [Fix.WITHDRAW]
        assert here.server.calls("DELETE", f"/jobs/{fts_id}")


async def test_a_copy_that_somebody_else_cancelled_is_made_again(opened: Opened) -> None:
    """Neither deliv nor its owner wished that."""
    async with opened as here:
        job = await here.posted("'deliv'")
        file = {"file_state": "CANCELED", "reason": "Job canceled by the user"}
        shown = {"job_id": job.job_id, "job_state": "CANCELED", "files": [file]}
        here.server.on("GET", f"/jobs/{job.job_id}", reply(shown))
        here.jobs.states.clear()
        await here.reconcile()
        job = await here.now(job)
        assert (phase(job), job.attempt) == (Phase.STAGED, 2)


async def test_the_copy_that_fts_reads_is_not_given_back(opened: Opened, grid: Grid) -> None:
    """As it is before any other later attempt."""
    async with opened as here, stagers(grid) as (stager, server):
        server.on("POST", "/stage", reply({}))
        job = await admitted(here.store)
        await works_on(here, replace(job, attempt=2))
        assert await repaired(here) == [Fix.TAKE_OVER]
        await staging(here.store, stager).proceed(await here.now(job))
        assert [asked.method for asked in server.asked] == ["POST"]


async def test_a_report_that_the_database_has_forgotten_is_asked_for_again(
    opened: Opened, grid: Grid, migrated: Server
) -> None:
    """The stager holds the copy and has reported: it would say nothing more."""
    async with opened as here, stagers(grid) as (stager, server):
        reported, staging_still = await waiting(here.store), await waiting(here.store)
        migrated.run("UPDATE jobs SET stager_accepted = stager_accepted - INTERVAL 1 MINUTE")
        listed = [
            {"job_id": job.job_id, "told": job is reported} for job in (reported, staging_still)
        ]
        server.on("GET", "/stage", reply(listed))
        check = StagerCheck(Inspection(here.parts.database), stager)
        (finding,) = [finding async for finding in check.findings()]
        assert (finding.job_id, finding.fix) == (reported.job_id, Fix.ASK)
        assert (await command.repair(here.parts).repair(finding))[0]
        assert phase(await here.now(reported)) is Phase.ASKING_STAGER
        assert phase(await here.now(staging_still)) is Phase.WAITING_FOR_STAGER


async def test_what_is_asked_for_again_is_not_late_since_before_the_restore(
    opened: Opened, grid: Grid, migrated: Server
) -> None:
    """The stager took the request of before longer ago than it may take for one."""
    async with opened as here, stagers(grid) as (stager, server):
        job = await here.store.update(await waiting(here.store), stager_status="accepted")
        migrated.rewrite(
            "UPDATE jobs SET stager_accepted = stager_accepted - INTERVAL 30 DAY,"
            " time_staging = time_staging - INTERVAL 30 DAY"
        )
        server.on("GET", "/stage", reply([{"job_id": job.job_id, "told": True}]))
        server.on("POST", "/stage", reply({}, 202))
        check = StagerCheck(Inspection(here.parts.database), stager)
        (finding,) = [finding async for finding in check.findings()]
        assert (await command.repair(here.parts).repair(finding))[0]
        await staging(here.store, stager).proceed(await here.now(job))
        assert phase(await here.now(job)) is Phase.WAITING_FOR_STAGER
        await here.parts.database.execute("UPDATE stagings SET due_at = NOW(6)")
        await staging(here.store, stager).requests.attend(job.job_id)
        assert phase(await here.now(job)) is Phase.WAITING_FOR_STAGER
        assert (await here.now(job)).attempt == 1


async def test_time_in_which_nobody_heard_the_stager_does_not_count(
    opened: Opened, grid: Grid, migrated: Server
) -> None:
    """A backup of days ago is put back under an instance that runs: nothing times out by that."""
    async with opened as here, stagers(grid) as (stager, server):
        job = await here.store.update(await waiting(here.store), stager_status="accepted")
        requests = staging(here.store, stager).requests
        server.on("POST", "/stage", reply({}, 202))
        server.on("GET", f"/stage/{job.job_id}", reply({"job_id": job.job_id, "told": False}))
        await staging(here.store, stager).proceed(await here.now(job))
        await here.store.note_time(60)
        migrated.rewrite("UPDATE clock SET seen = seen - INTERVAL 3 DAY")
        migrated.rewrite(
            "UPDATE stagings SET accepted = accepted - INTERVAL 3 DAY, due_at = NOW(6)"
        )
        await requests.attend(job.job_id)  # before that is noted
        assert phase(await here.now(job)) is Phase.WAITING_FOR_STAGER
        await here.store.note_time(60)
        await here.parts.database.execute("UPDATE stagings SET due_at = NOW(6)")
        await requests.attend(job.job_id)
        assert phase(await here.now(job)) is Phase.WAITING_FOR_STAGER
        assert (await here.now(job)).attempt == 1


@pytest.mark.parametrize(
    ("said", "answer", "asked_again"),
    [
        ("accepted", reply({"told": True}), True),
        ("accepted", reply({"told": False}), False),
        ("accepted", reply({}), False),
        ("accepted", reply([]), False),
        ("accepted", reply({}, 404), False),
        ("accepted", reply({}, 503), False),
        ("its report was refused: no such place", reply({"told": True}), False),
    ],
)
async def test_a_report_that_was_lost_is_asked_for_again(
    opened: Opened, grid: Grid, said: str, answer: Reply, asked_again: bool
) -> None:
    async with opened as here, stagers(grid) as (stager, server):
        job = await here.store.update(await waiting(here.store), stager_status="accepted")
        server.on("POST", "/stage", reply({}, 202))
        server.on("GET", f"/stage/{job.job_id}", answer)
        await staging(here.store, stager).proceed(await here.now(job))
        await here.parts.database.execute("UPDATE stagings SET status = %s, due_at = NOW(6)", said)
        await staging(here.store, stager).requests.attend(job.job_id)
        now = phase(await here.now(job))
        assert now is (Phase.ASKING_STAGER if asked_again else Phase.WAITING_FOR_STAGER)


@pytest.mark.parametrize("listed", [True, False], ids=["in its list", "when asked for one"])
async def test_a_stager_that_does_not_say_what_it_has_reported_is_asked_again(
    opened: Opened,
    grid: Grid,
    migrated: Server,
    capsys: pytest.CaptureFixture[str],
    listed: bool,
) -> None:
    """By `--repair` alone: in any other run it may be as it should be."""
    async with opened as here, stagers(grid) as (stager, server):
        job = await waiting(here.store)
        migrated.run("UPDATE jobs SET stager_accepted = stager_accepted - INTERVAL 1 MINUTE")
        server.on("GET", f"/stage/{job.job_id}", reply({"job_id": job.job_id}))
        server.on("GET", "/stage", reply([{"job_id": job.job_id}]) if listed else reply({}, 404))
        here.parts.stager = stager
        here.server.on("GET", "/jobs", reply([]))
        about = f"job {job.job_id} waits for the stager, which does not say whether it has reported"
        looks = command.run(here.parts), None, command._Text()
        assert await command._report(*looks) == command.CLEAN
        assert about not in capsys.readouterr().out
        assert phase(await here.now(job)) is Phase.WAITING_FOR_STAGER
        repairs = command.run(here.parts), command.repair(here.parts), command._Text()
        assert await command._report(*repairs) == command.CLEAN
        assert about in capsys.readouterr().out
        assert phase(await here.now(job)) is Phase.ASKING_STAGER


async def test_a_job_that_was_asked_for_meanwhile_is_left_alone(
    opened: Opened, grid: Grid, migrated: Server
) -> None:
    """The stager's list was of the time before."""
    async with opened as here, stagers(grid) as (stager, server):
        job = await waiting(here.store)
        migrated.run("UPDATE jobs SET stager_accepted = NOW(6) + INTERVAL 1 MINUTE")
        server.on("GET", "/stage", reply([{"job_id": job.job_id, "told": True}]))
        check = StagerCheck(Inspection(here.parts.database), stager)
        assert [finding async for finding in check.findings()] == []


async def test_what_the_stager_holds_for_a_queued_job_is_its_turn(
    opened: Opened, grid: Grid
) -> None:
    """It had been admitted. If it ended in the queue, nothing would be given back."""
    async with opened as here, stagers(grid) as (stager, server):
        job = await submitted(here.store)
        server.on("GET", "/stage", reply([{"job_id": job.job_id, "told": True}]))
        check = StagerCheck(Inspection(here.parts.database), stager)
        (finding,) = [finding async for finding in check.findings()]
        assert (finding.job_id, finding.fix) == (job.job_id, Fix.ADMIT)
        assert (await command.repair(here.parts).repair(finding))[0]
        assert phase(await here.now(job)) is Phase.ASKING_STAGER
        assert [finding async for finding in check.findings()] == []


async def test_what_the_stager_holds_for_a_job_that_ended_unasked_is_given_back(
    opened: Opened, grid: Grid
) -> None:
    """As when its deadline ended it, restored as queued."""
    async with opened as here, stagers(grid) as (stager, server):
        job = await here.store.apply(await submitted(here.store), Event.CANCEL)
        server.on("GET", "/stage", reply([{"job_id": job.job_id, "told": True}]))
        check = StagerCheck(Inspection(here.parts.database), stager)
        (finding,) = [finding async for finding in check.findings()]
        assert (finding.job_id, finding.fix) == (job.job_id, Fix.RELEASE)


@AT_THE_BACKUP
async def test_what_was_taken_over_is_stopped_when_the_job_ends_before_it_is_posted(
    opened: Opened, at_the_backup: Backup
) -> None:
    async with opened as here:
        job = await at_the_backup(here.store)
        fts_id = await works_on(here, job)
        assert await repaired(here) == [Fix.TAKE_OVER]
        job = await here.cancellation.cancel(job.job_id)
        assert phase(job) is Phase.CLEANING_UP
        await here.cleanup.clean_up(job)
        assert here.server.calls("DELETE", f"/jobs/{fts_id}")


async def test_a_later_attempt_is_taken_over_from_one_that_is_being_handed_over(
    opened: Opened,
) -> None:
    async with opened as here:
        job = await transferring(here.store)
        fts_jobid = await here.endpoint.job_id(sid(job))
        job = await here.store.update(job, fts_endpoint="fts1", fts_jobid=fts_jobid)
        assert phase(job) is Phase.HANDING_OVER
        await works_on(here, replace(job, attempt=2))
        assert await repaired(here) == [Fix.TAKE_OVER]
        assert (await here.now(job)).attempt == 2

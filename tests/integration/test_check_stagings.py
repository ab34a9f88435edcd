"""`deliv check` and stagings: what it finds, and what `--repair` does."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from support.samples import REPORT

from deliv.commands.check import command
from deliv.commands.check.findings import Finding, Fix
from deliv.commands.check.stager import StagerCheck
from deliv.commands.check.tables import tables
from deliv.db.database import Database
from deliv.model.file import ReportedFile
from deliv.model.phase import Phase, phase
from deliv.model.staging import StagingState
from deliv.model.states import Event
from deliv.store import Store
from deliv.store.inspection import Inspection
from integration.fts_bench import Bench, bench
from integration.scripted_fts import Grid, reply
from integration.test_stagings import USERS, World
from integration.test_stagings import opened as opened_world

pytestmark = pytest.mark.usefixtures("counted")

Opened = AbstractAsyncContextManager[Bench]
PATIENCE = 600.0  # seconds


@pytest.fixture
def opened(grid: Grid, database: Database, tmp_path: Path) -> Opened:
    """For what repairs."""
    return bench(grid, database, tmp_path)


async def at_the_stager(world: World, here: Bench) -> list[Finding]:
    check = StagerCheck(Inspection(here.parts.database), world.stager)
    return [finding async for finding in check.findings()]


async def in_tables(here: Bench) -> list[Finding]:
    found = [one async for one in tables(Inspection(here.parts.database), {}, PATIENCE)]
    return [finding for finding in found if finding.rule == "staging"]


async def repaired(here: Bench, findings: list[Finding]) -> list[Fix | None]:
    fixer = command.repair(here.parts)
    assert all([(await fixer.repair(finding))[0] for finding in findings])
    return [finding.fix for finding in findings]


async def test_a_report_that_was_forgotten_is_asked_for_once_for_all(
    opened: Opened, grid: Grid, store: Store, database: Database
) -> None:
    async with opened as here, opened_world(grid, store) as world:
        jobs = await world.steps([await world.admitted(user) for user in USERS])
        await database.execute("UPDATE stagings SET accepted = accepted - INTERVAL 1 MINUTE")
        told = [{"job_id": jobs[0].job_id, "told": True}]
        world.server.on("GET", "/stage", reply(told))
        found = await at_the_stager(world, here)
        assert await repaired(here, found) == [Fix.ASK_STAGING]
        assert {phase(await world.now(job)) for job in jobs} == {Phase.ASKING_STAGER}
        await world.sweep()
        assert {phase(await world.now(job)) for job in jobs} == {Phase.WAITING_FOR_STAGER}
        world.server.on("GET", "/stage", reply([told[0] | {"told": False}]))
        assert await at_the_stager(world, here) == []
        assert world.calls.count(("stage", jobs[0].job_id)) == 2


async def test_a_copy_that_was_given_back_and_is_still_there(
    opened: Opened, grid: Grid, store: Store, database: Database
) -> None:
    """Also by an id that is no job's."""
    async with opened as here, opened_world(grid, store) as world:
        here.parts.stager = world.stager
        first = await world.step(await world.admitted())
        await world.end(first, Event.CANCEL)
        await database.execute("UPDATE stagings SET released = released - INTERVAL 1 MINUTE")
        world.server.on("GET", "/stage", reply([{"job_id": first.job_id}]))
        found = await at_the_stager(world, here)
        assert await repaired(here, found) == [Fix.RELEASE]
        assert world.calls.count(("release", first.job_id)) == 2


async def test_what_is_under_way_is_in_order(opened: Opened, grid: Grid, store: Store) -> None:
    async with opened as here, opened_world(grid, store) as world:
        jobs = await world.steps([await world.admitted(user) for user in USERS])
        await world.report(jobs[0].job_id)
        await world.end(await world.step(jobs[0]))
        world.server.on("GET", "/stage", reply([{"job_id": jobs[0].job_id, "told": True}]))
        assert await in_tables(here) == []
        assert await at_the_stager(world, here) == []


@pytest.mark.parametrize("change", ["due_at = NULL", "due_at = NOW(6) - INTERVAL 1 DAY"])
async def test_a_staging_that_nobody_attends_to_is_due(
    opened: Opened, grid: Grid, store: Store, database: Database, change: str
) -> None:
    async with opened as here, opened_world(grid, store) as world:
        job = await world.step(await world.admitted())
        await database.execute(f"UPDATE stagings SET {change}")  # noqa: S608 - a test's own
        assert await repaired(here, await in_tables(here)) == [Fix.STAGING_DUE]
        assert await store.due_stagings(10) == [job.job_id]


async def test_a_copy_that_no_job_needs_is_given_back(
    opened: Opened, grid: Grid, store: Store, database: Database
) -> None:
    async with opened as here, opened_world(grid, store) as world:
        job = await world.step(await world.admitted())
        await world.report(job.job_id)
        await world.end(await world.now(job))
        lost = "UPDATE stagings SET state = 'RELEASING', due_at = NULL"
        await database.execute(lost)
        assert await repaired(here, await in_tables(here)) == [Fix.STAGING_DUE]
        await world.sweep()
        assert (await world.known(job.job_id)).state is StagingState.RELEASED
        assert await in_tables(here) == []


async def test_a_job_that_has_not_heard_of_the_end_is_due(
    opened: Opened, grid: Grid, store: Store, database: Database
) -> None:
    async with opened as here, opened_world(grid, store) as world:
        job = await world.step(await world.admitted())
        await database.execute("UPDATE stagings SET state = 'STAGED', due_at = NULL")
        assert await repaired(here, await in_tables(here)) == [Fix.DUE]
        assert job.job_id in await store.due(10)


async def test_files_without_a_staging_go(
    opened: Opened, grid: Grid, store: Store, database: Database
) -> None:
    async with opened as here, opened_world(grid, store) as world:
        job = await world.step(await world.admitted())
        staging = await world.known(job.job_id)
        await store.add_staging_files(staging, REPORT, 1, [ReportedFile(name="a")])
        assert await in_tables(here) == []
        await database.execute("UPDATE staging_files SET staging_id = 'gone'")
        assert await repaired(here, await in_tables(here)) == [Fix.STAGING_FILES]
        assert await database.query("SELECT * FROM staging_files") == []


@pytest.mark.parametrize(
    "wrong", ["UPDATE stagings_under_way SET bytes = 3", "DELETE FROM stagings_under_way"]
)
async def test_space_that_is_counted_wrong_is_counted_again(
    opened: Opened, grid: Grid, store: Store, database: Database, wrong: str
) -> None:
    async with opened as here, opened_world(grid, store) as world:
        jobs = await world.steps([await world.admitted(user) for user in USERS])
        await world.report(jobs[0].job_id, size=5)
        right = await database.query("SELECT * FROM stagings_under_way ORDER BY part")
        await database.execute(wrong)
        found = [one async for one in tables(Inspection(database), {}, PATIENCE)]
        found = [finding for finding in found if finding.fix is Fix.SPACE]
        assert await repaired(here, found) == [Fix.SPACE]
        assert await database.query("SELECT * FROM stagings_under_way ORDER BY part") == right

"""Deadlines are enforced while other calls hang, and before any call is made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.private_mariadb import Server
from support.samples import ALICE, HOST, admitted, submitted, transferring

from deliv.assembly import Parts, build
from deliv.config import Seconds, Sweeps
from deliv.db.database import Database
from deliv.identity.policy import LivePolicy
from deliv.model.job import Job
from deliv.model.states import Status
from deliv.store import NOW, Store
from deliv.tasks.sweeps import Deadlines, Sweep
from integration.fts_bench import Delegated, loaded
from integration.scripted_fts import Asked, Grid, Reply, ScriptedFts, reply

RULE = {"dn": ALICE, "roles": ["submitter"], "destinations": [HOST]}
SWEEPS = Sweeps(every=Seconds(60))


class SlowStager:
    """It answers nothing before it is released."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.released = asyncio.Event()
        self.calls = 0

    async def stage(self, job: Job, authcode: str) -> None:
        await self._answer()

    async def release(self, job_id: str) -> None:
        await self._answer()

    async def _answer(self) -> None:
        self.calls += 1
        self.asked.set()
        await self.released.wait()


@dataclass
class World:
    parts: Parts
    stager: SlowStager
    fts: ScriptedFts

    @property
    def store(self) -> Store:
        return self.parts.store

    async def overdue(self, *jobs: Job) -> None:
        sql = "UPDATE jobs SET deadline = NOW(6) - INTERVAL 1 SECOND WHERE job_id = %s"
        for job in jobs:
            await self.parts.database.execute(sql, job.job_id)

    async def enforce(self) -> int:
        return await Deadlines(self.store, self.parts.engine, SWEEPS).enforce_once()

    async def state(self, job: Job) -> tuple[Status, str | None]:
        found = await self.store.job(job.job_id)
        assert found
        return found.status, found.error_class


@asynccontextmanager
async def world(grid: Grid, database: Database, directory: Path) -> AsyncIterator[World]:
    async with ScriptedFts(grid) as fts:
        parts = build(loaded(grid, fts, directory, {}))
        stager = SlowStager()
        policy = directory / "policy.yaml"
        policy.write_text(json.dumps({"rules": [RULE]}), encoding="utf-8")
        parts.database, parts.policy = database, LivePolicy(policy)
        parts.stager, parts.delegating = stager, Delegated(database)  # type: ignore[assignment]
        try:
            yield World(parts, stager, fts)
        finally:
            stager.released.set()
            parts.close()


async def test_a_sweep_that_waits_for_the_stager_delays_none(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with world(grid, database, tmp_path) as here:
        staging, waiting = await admitted(here.store), await submitted(here.store)
        sweep = asyncio.create_task(Sweep(here.store, here.parts.engine, SWEEPS).sweep_once())
        await here.stager.asked.wait()
        await here.overdue(waiting, staging)
        assert await here.enforce() == 2
        assert await here.state(waiting) == (Status.ERROR, "deadline")
        assert await here.state(staging) == (Status.ERROR, "deadline")
        assert not sweep.done()
        here.stager.released.set()
        await sweep


async def test_a_copy_is_stopped_without_the_sweep_once_all_have_ended(
    grid: Grid, database: Database, migrated: Server, tmp_path: Path
) -> None:
    """The job that has ended is not cleaned up by the way: the stager may be slow."""
    async with world(grid, database, tmp_path) as here:
        copying = await transferring(here.store)
        copying = await here.store.update(
            copying, delay=None, fts_endpoint="fts1", fts_jobid=copying.job_id, fts_posted=NOW
        )
        staging = await admitted(here.store)
        await here.overdue(copying, staging)
        ended_first: list[bool] = []

        def stopped(_asked: Asked) -> Reply:
            sql = "SELECT status FROM deliv.jobs WHERE job_id = %s"
            with migrated.admin() as connection, connection.cursor() as cursor:
                cursor.execute(sql, (staging.job_id,))
                ended_first.append(cursor.fetchone() == {"status": "ERROR"})
            return reply({"job_id": copying.job_id, "job_state": "CANCELED"})

        file = {"file_state": "CANCELED"}
        canceled = {"job_id": copying.job_id, "job_state": "CANCELED", "files": [file]}
        here.fts.on("DELETE", f"/jobs/{copying.job_id}", stopped)
        here.fts.on("GET", f"/jobs/{copying.job_id}", reply(canceled))
        assert await here.enforce() == 2
        assert await here.state(copying) == (Status.ERROR, "deadline")
        assert ended_first == [True]
        assert here.stager.calls == 0


async def test_more_than_one_batch_ends_at_once(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with world(grid, database, tmp_path) as here:
        await here.overdue(*[await submitted(here.store) for _ in range(5)])
        sweeps = Sweeps(every=Seconds(60), batch=2)
        assert await Deadlines(here.store, here.parts.engine, sweeps).enforce_once() == 5

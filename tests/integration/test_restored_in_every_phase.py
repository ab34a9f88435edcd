"""A backup with jobs in every phase, lost when each was in every later one: all end right, once.

deliv's own parts do the work, on a real MariaDB; the stager and FTS remember what they were asked.
A history is the steps that a job takes; the jobs of a test had taken more or fewer of them at the
backup.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from support.private_mariadb import Server
from support.samples import submitted

from deliv.commands.check import command
from deliv.commands.check.findings import Finding
from deliv.db.database import Database
from deliv.delivery.ending.cleanup import Cleanup
from deliv.delivery.engine import Engine
from deliv.delivery.permission import Permission
from deliv.delivery.stage import Staging
from deliv.errors import Forbidden
from deliv.model.job import Job, StageReport
from deliv.model.phase import Phase, phase
from deliv.model.states import Event, Status
from integration.fts_bench import ENDED, Bench, bench
from integration.scripted_delegation import WHOAMI
from integration.scripted_fts import Asked, Grid, Reply, ScriptedFts, html, reply
from integration.test_stager_gateway import stagers

TABLES = ("jobs", "job_events", "outbox", "submitter_jobs")
ROUNDS = 20  # in which all jobs must have ended
SIZE = 5


@dataclass
class RememberingStager:
    """Takes every request, and reports each once."""

    codes: dict[str, str] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)

    def install(self, server: ScriptedFts) -> None:
        server.on("POST", "/stage", self.taken)
        server.on("DELETE", "/stage/*", self.released)
        server.on("GET", "/stage", self.listed)

    def taken(self, asked: Asked) -> Reply:
        body = json.loads(asked.body)
        self.codes[body["job_id"]] = body["authcode"]
        self.reported.discard(body["job_id"])
        return reply({})

    def released(self, asked: Asked) -> Reply:
        job_id = asked.path.removeprefix("/stage/")
        self.reported.discard(job_id)
        return reply({}) if self.codes.pop(job_id, None) else reply({"msg": "not here"}, 404)

    def listed(self, _asked: Asked) -> Reply:
        return reply([{"job_id": one, "told": one in self.reported} for one in self.codes])


@dataclass
class RememberingFts:
    """Copies what it is asked to, by ids that it makes from the sid."""

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    slow_to_stop: bool = False
    unreached: bool = False  # a submission does not arrive
    unheard: bool = False  # it does, but FTS's answer is lost

    def install(self, server: ScriptedFts) -> None:
        server.on("POST", "/jobs", self.taken)
        server.on("GET", "/jobs", self.listed)
        server.on("GET", "/jobs/*", self.shown)
        server.on("GET", "/archive/*", reply({"status": "404"}, 404))
        server.on("DELETE", "/jobs/*", self.stopped)

    def taken(self, asked: Asked) -> Reply:
        if self.unreached:
            return html(503)
        body = json.loads(asked.body)
        fts_id = str(uuid.uuid5(uuid.UUID(WHOAMI["vos_id"][0]), body["params"]["sid"]))
        if fts_id in self.jobs:
            return reply({"message": "it is there"}, 409)
        destination = body["files"][0]["destinations"][0]
        if any(
            job["job_state"] == "ACTIVE" and job["files"][0]["dest_surl"] == destination
            for job in self.jobs.values()
        ):
            return reply({"message": "the destination is in use"}, 409)
        self.jobs[fts_id] = {
            "job_id": fts_id,
            "job_metadata": body["params"]["job_metadata"],
            "files": [{"dest_surl": destination}],
        }
        self.set_state(fts_id, "ACTIVE")
        return html(503) if self.unheard else reply({"job_id": fts_id})

    def set_state(self, fts_id: str, state: str, **file: object) -> None:
        job = self.jobs[fts_id]
        job["job_state"] = state
        job["files"][0] |= {"file_state": state, "filesize": SIZE, **file}

    def listed(self, asked: Asked) -> Reply:
        states = {"FINISHED", "FAILED", "CANCELED"} if ENDED in asked.query else {"ACTIVE"}
        found = [job for job in self.jobs.values() if job["job_state"] in states]
        return reply([{"job_id": job["job_id"], "job_state": job["job_state"]} for job in found])

    def shown(self, asked: Asked) -> Reply:
        ids = asked.path.removeprefix("/jobs/").split(",")
        unknown = {"http_status": "404 Not Found", "http_message": "No job"}
        answers = [
            self.jobs[one] | {"http_status": "200 OK"}
            if one in self.jobs
            else {"job_id": one} | unknown
            for one in ids
        ]
        if len(ids) > 1:
            return reply(answers)
        return reply(answers[0], 200 if ids[0] in self.jobs else 404)

    def stopped(self, asked: Asked) -> Reply:
        fts_id = asked.path.removeprefix("/jobs/")
        if fts_id not in self.jobs:
            return reply({"http_status": "404 Not Found", "http_message": "No job"}, 404)
        if self.jobs[fts_id]["job_state"] == "ACTIVE" and not self.slow_to_stop:
            self.cancelled.append(fts_id)
            self.set_state(fts_id, "CANCELED", reason="Job canceled by the user")
        return reply(self.jobs[fts_id])

    def of(self, job_id: str, state: str) -> list[str]:
        return [
            fts_id
            for fts_id, job in self.jobs.items()
            if job["job_metadata"]["deliv_job_id"] == job_id and job["job_state"] == state
        ]


class AllAllowed:
    async def granted(self, job: Job) -> Job:
        return job


@dataclass
class World:
    bench: Bench
    server: Server
    stager: RememberingStager
    fts: RememberingFts
    staging: Staging
    engine: Engine
    backed_up: bool = False

    async def attend(self, job_id: str) -> None:
        """What is due, or will be in time."""
        self.server.run("UPDATE jobs SET due_at = NOW(6) WHERE due_at > NOW(6)")
        await self.engine.attend(job_id)

    async def submit(self, _none: str) -> str:
        path = f"gsiftp://user.example.org/data/{uuid.uuid4()}"
        deadline = datetime.now(UTC) + timedelta(days=1)
        job = await submitted(self.bench.store, destination_path=path, deadline=deadline)
        return job.job_id

    async def admit(self, job_id: str) -> None:
        await self.bench.store.apply(await self.now(job_id), Event.ADMIT)

    async def report(self, job_id: str) -> None:
        self.stager.reported.add(job_id)
        job = await self.now(job_id)
        report = StageReport(
            job_id=job_id,
            product_id=job.product_id,
            authcode=self.stager.codes[job_id],
            success=True,
            staged_to="archive.example.org",
            path="/copy/a file.fits",
            msg=None,
            size=SIZE,
        )
        await self.staging.report(report)

    async def fail(self, job_id: str) -> None:
        (fts_id,) = self.fts.of(job_id, "ACTIVE")
        self.fts.set_state(fts_id, "FAILED", reason="TRANSFER [70] something went wrong")
        await self.bench.polling.poll_once()

    async def finish(self, job_id: str) -> None:
        (fts_id,) = self.fts.of(job_id, "ACTIVE")
        self.fts.set_state(fts_id, "FINISHED")
        await self.bench.polling.poll_once()

    async def hand_over_in_vain(self, job_id: str) -> None:
        self.fts.unreached = True
        await self.attend(job_id)
        self.fts.unreached = False
        self.bench.endpoint.breaker.succeeded()  # the next job's trouble is its own

    async def hand_over_unheard(self, job_id: str) -> None:
        self.fts.unheard = True
        await self.attend(job_id)
        self.fts.unheard = False
        self.bench.endpoint.breaker.succeeded()

    async def cancel(self, job_id: str) -> None:
        self.fts.slow_to_stop = True
        await self.bench.cancellation.cancel(job_id)
        self.fts.slow_to_stop = False

    async def outlive(self, job_id: str) -> None:
        """The job's deadline passes, before the backup's data are restored as well as after."""
        for table in ("jobs", "old_jobs") if self.backed_up else ("jobs",):
            self.server.run(
                f"UPDATE {table} SET deadline = NOW(6) - INTERVAL 1 SECOND "  # noqa: S608
                f"WHERE job_id = '{job_id}'"
            )
        self.fts.slow_to_stop = True
        if await self.engine.expire(job_id):
            await self.attend(job_id)
        self.fts.slow_to_stop = False

    async def now(self, job_id: str) -> Job:
        job = await self.bench.store.job(job_id)
        assert job is not None
        return job

    def back_up(self) -> None:
        self.server.run(*(f"CREATE TABLE old_{name} AS SELECT * FROM {name}" for name in TABLES))  # noqa: S608
        self.backed_up = True

    def restore(self) -> None:
        """The counts are made again from the jobs."""
        self.server.rewrite(
            *(f"DELETE FROM {name}" for name in reversed(TABLES)),  # noqa: S608
            *(f"INSERT INTO {name} SELECT * FROM old_{name}" for name in TABLES[:3]),  # noqa: S608
            *(f"DROP TABLE old_{name}" for name in TABLES),
        )
        self.backed_up = False

    async def check(self, *, repair: bool) -> list[Finding]:
        run, fixer = command.run(self.bench.parts), command.repair(self.bench.parts)
        found = []
        async for finding in run.findings():
            found.append(finding)
            if repair:
                done, said = await fixer.repair(finding)
                assert done, (finding, said)
        assert run.unchecked == []
        return found

    async def expire(self) -> None:
        for job_id in await self.bench.store.expired(1000):
            await self.engine.expire(job_id)

    async def go_on(self, job_ids: list[str]) -> None:
        """A round of everything that moves jobs."""
        await self.expire()
        while await self.engine.admit_next():
            pass
        self.server.run("UPDATE jobs SET due_at = NOW(6) WHERE due_at > NOW(6)")
        for job_id in await self.bench.store.due(1000):
            await self.engine.attend(job_id)
        for job_id in set(self.stager.codes) - self.stager.reported:
            try:
                await self.report(job_id)
            except Forbidden:
                pass
        for job_id in job_ids:
            for fts_id in self.fts.of(job_id, "ACTIVE"):
                self.fts.set_state(fts_id, "FINISHED")
        await self.bench.polling.poll_once()
        await self.bench.reconcile()


Step = Callable[[World, str], Awaitable[object]]
# Each begins where the one before it has led to.
DELIVERED: dict[str, Step] = {
    "queued": World.submit,
    "asking the stager": World.admit,
    "waiting for the stager": World.attend,
    "staged": World.report,
    "handing over": World.hand_over_in_vain,
    "copying": World.attend,
    "to be copied again": World.fail,
    "handing over again": World.hand_over_unheard,
    "copying again": World.attend,
    "cleaning up": World.finish,
    "closed": World.attend,
}
UNFINISHED = list(DELIVERED)[:-2]
# How FTS stops it, if it is there, and the stager takes its copy back.
STOPPED: dict[str, Step] = {"stopped": World.attend, "given back": World.attend}
WISHES: dict[Status, Step] = {Status.CANCELLED: World.cancel, Status.ERROR: World.outlive}
WISHED = pytest.mark.parametrize("wish", WISHES, ids=["cancelled", "overdue"])


@asynccontextmanager
async def world(
    grid: Grid, database: Database, directory: Path, server: Server
) -> AsyncIterator[World]:
    async with (
        bench(grid, database, directory, other=4) as here,
        stagers(grid) as (gateway, at_stager),
    ):
        stager, fts = RememberingStager(), RememberingFts()
        stager.install(at_stager)
        fts.install(here.server)
        parts = here.parts
        parts.stager = gateway
        engine = Engine(
            here.store,
            parts.staging,
            here.transfers,
            here.cancellation,
            Cleanup(here.store, gateway, parts.withdrawal, parts.settings),
            cast(Permission, AllAllowed()),
            parts.patience,
            parts.settings,
        )
        yield World(here, server, stager, fts, parts.staging, engine)


async def lose(here: World, history: dict[str, Step], loss: str) -> dict[str, str]:
    """Jobs that had come to `loss` when the database was lost, and are restored.

    The id of each by the last step that it had taken at the backup.
    """
    names = list(history)[: list(history).index(loss) + 1]
    jobs = dict.fromkeys(names, "")
    for number, backup in enumerate(names):
        for name in names[: number + 1]:
            jobs[backup] = await history[name](here, jobs[backup]) or jobs[backup]
    here.back_up()
    for number, backup in enumerate(names):
        for name in names[number + 1 :]:
            await history[name](here, jobs[backup])
    here.restore()
    await here.expire()  # deliv runs, and deadlines do not wait for the check
    await here.check(repair=True)
    return jobs


async def ends(here: World, jobs: dict[str, str]) -> dict[str, tuple[Status, int]]:
    """How each job ended, and how often FTS has copied it to its end. Nothing else is left."""
    for _ in range(ROUNDS):
        await here.go_on(list(jobs.values()))
        now = {backup: await here.now(job_id) for backup, job_id in jobs.items()}
        if {phase(job) for job in now.values()} == {Phase.CLOSED}:
            break
    assert {backup: phase(job) for backup, job in now.items()} == dict.fromkeys(jobs, Phase.CLOSED)
    copying = {backup for backup, job_id in jobs.items() if here.fts.of(job_id, "ACTIVE")}
    held = {backup for backup, job_id in jobs.items() if job_id in here.stager.codes}
    assert (copying, held) == (set(), set())
    assert await here.check(repair=False) == []
    return {
        name: (job.status, len(here.fts.of(job.job_id, "FINISHED"))) for name, job in now.items()
    }


@pytest.mark.parametrize("loss", DELIVERED)
async def test_a_delivery(
    grid: Grid, database: Database, tmp_path: Path, migrated: Server, loss: str
) -> None:
    async with world(grid, database, tmp_path, migrated) as here:
        jobs = await lose(here, DELIVERED, loss)
        assert await ends(here, jobs) == dict.fromkeys(jobs, (Status.SUCCESS, 1))
        assert here.fts.cancelled == []


@pytest.mark.rotating
@pytest.mark.parametrize("loss", ["stopping", *STOPPED])
@pytest.mark.parametrize("until", UNFINISHED)
@WISHED
async def test_a_job_that_is_stopped(
    grid: Grid,
    database: Database,
    tmp_path: Path,
    migrated: Server,
    wish: Status,
    until: str,
    loss: str,
) -> None:
    """What the database has forgotten is a cancellation, but not a deadline."""
    history = {name: DELIVERED[name] for name in UNFINISHED[: UNFINISHED.index(until) + 1]}
    history |= {"stopping": WISHES[wish], **STOPPED}
    async with world(grid, database, tmp_path, migrated) as here:
        jobs = await lose(here, history, loss)
        forgotten = UNFINISHED if wish is Status.CANCELLED else []
        assert await ends(here, jobs) == {
            backup: (Status.SUCCESS, 1) if backup in forgotten else (wish, 0) for backup in jobs
        }


@pytest.mark.rotating
@pytest.mark.parametrize("loss", UNFINISHED)
@WISHED
async def test_a_job_that_is_stopped_after_the_restore(
    grid: Grid, database: Database, tmp_path: Path, migrated: Server, wish: Status, loss: str
) -> None:
    """Whatever the stager and FTS did for it that the database has forgotten."""
    async with world(grid, database, tmp_path, migrated) as here:
        jobs = await lose(here, DELIVERED, loss)
        for job_id in jobs.values():
            await WISHES[wish](here, job_id)
        assert await ends(here, jobs) == dict.fromkeys(jobs, (wish, 0))

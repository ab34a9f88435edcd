"""deliv's dealings with FTS: a real HTTPS server that follows a script, a real MariaDB."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import yaml
from deliv_testbed import pki
from support.samples import transferring

from deliv import config
from deliv.assembly import Parts, build
from deliv.db.database import Database
from deliv.delivery.ending.cancellation import Cancellation
from deliv.delivery.ending.cleanup import Cleanup
from deliv.delivery.ending.failure import FailureHandler
from deliv.delivery.ending.settlement import Settlement
from deliv.delivery.poll import Polling
from deliv.delivery.transfer import FtsTransfers
from deliv.errors import NoCredential
from deliv.gateways.fts import Endpoint
from deliv.gateways.gridftp import GridFtp
from deliv.gateways.https import HeldCredential
from deliv.gateways.stager import Stager
from deliv.model.job import Job, delegation_id
from deliv.store import NOW, Fence, Store
from integration.scripted_delegation import WHOAMI, CredentialDelegation
from integration.scripted_fts import Asked, Grid, Reply, ScriptedFts, reply

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"
ENDED = "state_in=FINISHED,FAILED,FINISHEDDIRTY,CANCELED"
MISSES = 3
DELIV = "'deliv'"
REFUSAL = {
    "http_status": "403 Forbidden",
    "http_message": "Not enough permissions to check the job",
}

ROW = """
INSERT IGNORE INTO delegations (delegation_id, dn, proxy_key, expires)
VALUES (%s, %s, 'sealed', NOW(6) + INTERVAL %s MINUTE)
"""


class Delegated:
    """What users have delegated, in place of what is sealed in the database's rows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.held: dict[str, HeldCredential] = {}
        self.minutes = 24 * 60  # that each lasts, by its row

    async def credential(self, dn: str) -> HeldCredential:
        if dn not in self.held:
            await self._database.execute("DELETE FROM delegations WHERE dn = %s", dn)
            raise NoCredential(f"{dn} has no delegated credential (any more)")
        await self._database.execute(ROW, delegation_id(dn), dn, self.minutes)
        return self.held[dn]


class Released(Stager):
    """In place of the stager: the jobs whose staged copy was given back."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    async def release(self, job_id: str) -> None:
        self.jobs.append(job_id)


class Jobs:
    """What FTS has, by owner; it shows each of them their own."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], str] = {}
        self.files: dict[str, dict[str, Any]] = {}  # what else it says of a job's file

    def listed(self, asked: Asked) -> Reply:
        mine = {job: s for (owner, job), s in self.states.items() if owner in asked.subject}
        wanted = {"FINISHED", "FAILED"} if ENDED in asked.query else {"ACTIVE"}
        return reply([{"job_id": j, "job_state": s} for j, s in mine.items() if s in wanted])

    def shown(self, asked: Asked) -> Reply:
        ids = asked.path.removeprefix("/jobs/").split(",")
        answers = [self._one(asked.subject, job_id) for job_id in ids]
        if len(answers) == 1 and answers[0]["http_status"].startswith("404"):
            return reply(answers[0], 404)
        return reply(answers if len(ids) > 1 else answers[0])

    def _one(self, subject: str, job_id: str) -> dict[str, Any]:
        for (owner, known), state in self.states.items():
            if known == job_id and owner in subject:
                file = {"file_state": state, "filesize": 5} | self.files.get(job_id, {})
                return {"job_id": job_id, "job_state": state, "files": [file], "http_status": "200"}
        return {"job_id": job_id, "http_status": "404 Not Found", "http_message": "No job"}


@dataclass
class Bench:
    server: ScriptedFts
    jobs: Jobs
    polling: Polling
    transfers: FtsTransfers
    settlement: Settlement
    failures: FailureHandler
    cancellation: Cancellation
    store: Store
    delegated: Delegated
    endpoint: Endpoint
    cleanup: Cleanup
    parts: Parts

    async def posted(self, owner: str, **changes: Any) -> Job:
        """A job that FTS is copying."""
        job = await transferring(self.store, **changes)
        self.jobs.states[owner, job.job_id] = "ACTIVE"
        self.server.on("GET", f"/jobs/{job.job_id}", self.jobs.shown)
        self.server.on("GET", f"/archive/{job.job_id}", reply({"status": "404"}, 404))
        return await self.store.update(
            job, delay=None, fts_endpoint="fts1", fts_jobid=job.job_id, fts_posted=NOW
        )

    def asked_together(self, *jobs: Job) -> None:
        """FTS answers when it is asked for them in one call."""
        for ids in permutations(job.job_id for job in jobs):
            self.server.on("GET", f"/jobs/{','.join(ids)}", self.jobs.shown)

    def finish(self, owner: str, job: Job) -> None:
        self.jobs.states[owner, job.job_id] = "FINISHED"

    async def now(self, job: Job) -> Job:
        known = await self.store.job(job.job_id)
        assert known is not None
        return known

    async def compared(self, job: Job) -> Job:
        """The job, once no file at a destination is being compared."""
        await asyncio.gather(*self.settlement.comparing.values())
        return await self.now(job)

    def forbid(self, job: Job) -> None:
        """The job is another's to FTS now."""
        self.jobs.states = {key: s for key, s in self.jobs.states.items() if key[1] != job.job_id}
        refusal = {**REFUSAL, "job_id": job.job_id}
        for method in ("GET", "DELETE"):
            self.server.on(method, f"/jobs/{job.job_id}", reply(refusal, 403))

    async def long_unseen(self, job: Job) -> Job:
        """As if it had been out of deliv's sight for a day."""
        sql = "UPDATE jobs SET unseen_since = unseen_since - INTERVAL 1 DAY WHERE job_id = %s"
        assert await self.parts.database.execute(sql, job.job_id)
        return await self.now(job)

    async def reconcile(self) -> None:
        number = await self.store.lease("reconcile", "me", 60)
        fence = Fence(name="reconcile", owner="me", number=number or 0)
        await self.polling.reconcile_once(0.0, lambda: fence)


@asynccontextmanager
async def bench(
    grid: Grid, database: Database, directory: Path, gridftp: GridFtp | None = None, **retries: int
) -> AsyncIterator[Bench]:
    """`retries`: attempts by class of error, one for `credential` unless it is given.

    Without `gridftp` no file is read at a destination.
    """
    async with ScriptedFts(grid) as server:
        parts = build(loaded(grid, server, directory, {"credential": 1, **retries}))
        delegated, jobs, released = Delegated(database), Jobs(), Released()
        parts.database, parts.delegating = database, delegated  # type: ignore[assignment]
        parts.gridftp = gridftp
        server.on("GET", "/jobs", jobs.listed)
        server.on("GET", "/whoami", reply(WHOAMI))
        CredentialDelegation().install(server)
        try:
            yield Bench(
                server,
                jobs,
                parts.polling["fts1"],
                parts.transfers,
                parts.settlement,
                parts.failures,
                parts.cancellation,
                parts.store,
                delegated,
                parts.fts.endpoint("fts1"),
                Cleanup(parts.store, released, parts.withdrawal, parts.settings),
                parts,
            )
        finally:
            parts.close()


def loaded(
    grid: Grid, server: ScriptedFts, directory: Path, retries: dict[str, int]
) -> config.Config:
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    document["fts"]["endpoints"] = {"fts1": server.url}
    document["retries"] = {
        error_class: {"attempts": attempts, "backoff": "1s"}
        for error_class, attempts in retries.items()
    }
    document["ca_directory"] = str(grid.ca_directory)
    document["credential"] = {
        "certificate": str(grid.credential.certificate),
        "key": str(grid.credential.key),
    }
    path = directory / "deliv.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    return config.load(path)


def held(credential: pki.Credential) -> HeldCredential:
    return HeldCredential(
        certificate=credential.certificate_pem(),
        key=credential.key_pem(),
        expires=credential.certificate.not_valid_after_utc,
    )

"""FTS is asked under each identity whose jobs it has; whose credential has gone is not waited for.

FTS is a real HTTPS server that follows a script, the database a real MariaDB.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from samples import BOB, transferring
from scripted_fts import Asked, Grid, Reply, ScriptedFts, html, reply

from deliv import config
from deliv.db import Database
from deliv.delivery.copiers import Copiers
from deliv.delivery.failing import Failing
from deliv.delivery.polling import Polling
from deliv.delivery.transfers import Transfers
from deliv.errors import NoCredential, Unavailable
from deliv.fts import Endpoint, Fts
from deliv.fts.users import UserEndpoints
from deliv.https import HeldCredential, HttpsClient
from deliv.model import CopiedAs, Job
from deliv.states import Status
from deliv.store import NOW, Delegations, Fence, Store
from deliv.testbed import pki

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"
ENDED = "state_in=FINISHED,FAILED,FINISHEDDIRTY,CANCELED"
MISSES = 3
DELIV = "'deliv'"


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return Grid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def alice(grid: Grid) -> pki.Credential:
    return grid.authority.issue(pki.user_name("alice"))


class Delegated:
    """What users have delegated, in place of the database's rows."""

    def __init__(self) -> None:
        self.held: dict[str, HeldCredential] = {}

    async def credential(self, dn: str) -> HeldCredential:
        if dn not in self.held:
            raise NoCredential(f"{dn} has no delegated credential (any more)")
        return self.held[dn]


class Jobs:
    """What FTS has in hand, by owner; it shows each of them their own."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], str] = {}

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
                file = {"file_state": state, "filesize": 5}
                return {"job_id": job_id, "job_state": state, "files": [file], "http_status": "200"}
        return {"job_id": job_id, "http_status": "404 Not Found", "http_message": "No job"}


@dataclass
class Bench:
    server: ScriptedFts
    jobs: Jobs
    polling: Polling
    store: Store
    delegated: Delegated

    async def posted(self, owner: str, **changes: Any) -> Job:
        """A job that FTS has in hand, running."""
        job = await transferring(self.store, **changes)
        self.jobs.states[owner, job.job_id] = "ACTIVE"
        self.server.on("GET", f"/jobs/{job.job_id}", self.jobs.shown)
        self.server.on("GET", f"/archive/{job.job_id}", reply({"status": "404"}, 404))
        return await self.store.update(
            job, delay=None, fts_endpoint="fts1", fts_jobid=job.job_id, fts_posted=NOW
        )

    def finish(self, owner: str, job: Job) -> None:
        self.jobs.states[owner, job.job_id] = "FINISHED"

    async def now(self, job: Job) -> Job:
        known = await self.store.job(job.job_id)
        assert known is not None
        return known

    async def reconcile(self) -> None:
        number = await self.store.lease("reconcile", "me", 60)
        fence = Fence(name="reconcile", owner="me", number=number or 0)
        await self.polling.reconcile_once(0.0, lambda: fence)


@asynccontextmanager
async def bench(grid: Grid, database: Database, directory: Path) -> AsyncIterator[Bench]:
    async with ScriptedFts(grid) as server:
        settings = loaded(grid, server, directory)
        https = HttpsClient(grid.credential, grid.ca_directory)
        fts, users = Fts(settings.fts, https), UserEndpoints(settings.fts, grid.ca_directory)
        delegated, store, jobs = Delegated(), Store(database), Jobs()
        copiers = Copiers(fts, users, delegated)  # type: ignore[arg-type]
        failing = Failing(store, settings)
        transfers = Transfers(store, fts, copiers, failing, settings.sweeps)
        endpoint: Endpoint = fts.endpoint("fts1")
        polling = Polling(store, transfers, copiers, Delegations(database), endpoint, MISSES)
        server.on("GET", "/jobs", jobs.listed)
        try:
            yield Bench(server, jobs, polling, store, delegated)
        finally:
            https.close()
            users.close()


def loaded(grid: Grid, server: ScriptedFts, directory: Path) -> config.Config:
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    document["fts"]["endpoints"] = {"fts1": server.url}
    document["retries"] = {"credential": {"attempts": 1, "backoff": "1s"}}
    path = directory / "deliv.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    return config.load(path)


def held(credential: pki.Credential) -> HeldCredential:
    return HeldCredential(
        certificate=credential.certificate_pem(),
        key=credential.key_pem(),
        expires=credential.certificate.not_valid_after_utc,
    )


async def test_each_identity_is_asked_for_its_own(
    grid: Grid, database: Database, alice: pki.Credential, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path) as here:
        here.delegated.held[alice.dn] = held(alice)
        ours = await here.posted(DELIV)
        theirs = await here.posted("'alice'", submitter=alice.dn, copied_as=CopiedAs.USER)
        assert await here.polling.poll_once() == 0
        here.finish("'alice'", theirs)
        assert await here.polling.poll_once() == 1
        assert (await here.now(theirs)).status is Status.SUCCESS
        assert (await here.now(ours)).status is Status.TRANSFERRING
        here.finish("'deliv'", ours)
        assert await here.polling.poll_once() == 1
        assert (await here.now(ours)).status is Status.SUCCESS


async def test_one_users_trouble_is_not_anothers(
    grid: Grid, database: Database, alice: pki.Credential, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path) as here:
        here.delegated.held[alice.dn] = held(alice)
        stranger = pki.Authority.create(pki.name(("O", "elsewhere"), ("CN", "CA")))
        here.delegated.held["/CN=refused"] = held(stranger.issue(pki.user_name("alice")))
        fine = await here.posted("'alice'", submitter=alice.dn, copied_as=CopiedAs.USER)
        for dn in (BOB, "/CN=refused"):
            await here.posted("'alice'", submitter=dn, copied_as=CopiedAs.USER)
        here.finish("'alice'", fine)
        assert await here.polling.poll_once() == 1
        assert (await here.now(fine)).status is Status.SUCCESS


async def test_a_job_that_only_its_user_may_see(
    grid: Grid, database: Database, alice: pki.Credential, tmp_path: Path
) -> None:
    """It is running under theirs, and unknown under deliv's own: that is no miss."""
    async with bench(grid, database, tmp_path) as here:
        here.delegated.held[alice.dn] = held(alice)
        job = await here.posted("'alice'", submitter=alice.dn, copied_as=CopiedAs.USER)
        for _ in range(MISSES + 1):
            await here.reconcile()
        now = await here.now(job)
        assert (now.status, now.fts_misses) == (Status.TRANSFERRING, 0)
        here.finish("'alice'", job)
        await here.reconcile()
        assert (await here.now(job)).status is Status.SUCCESS


async def test_a_user_whose_credential_has_gone(
    grid: Grid, database: Database, alice: pki.Credential, tmp_path: Path
) -> None:
    """They have some rounds to delegate anew; then the job is over."""
    async with bench(grid, database, tmp_path) as here:
        job = await here.posted("'alice'", submitter=alice.dn, copied_as=CopiedAs.USER)
        for round_ in range(1, MISSES):
            await here.reconcile()
            assert (await here.now(job)).fts_misses == round_
        await here.reconcile()
        now = await here.now(job)
        assert (now.status, now.error_class) == (Status.ERROR, "credential")
        assert now.partial
        assert "delegate anew" in (now.detailed_status or "")


async def test_misses_count_in_a_row_only(grid: Grid, database: Database, tmp_path: Path) -> None:
    """An FTS that knows the copy again, running or listed, has not lost it."""
    async with bench(grid, database, tmp_path) as here:
        job = await here.posted(DELIV)
        for _ in range(3):
            for round_ in range(1, MISSES):
                here.jobs.states.clear()
                await here.reconcile()
                assert (await here.now(job)).fts_misses == round_
            here.jobs.states[DELIV, job.job_id] = "ACTIVE"
            await here.reconcile()
            now = await here.now(job)
            assert (now.status, now.fts_misses) == (Status.TRANSFERRING, 0)
        here.jobs.states.clear()
        for _ in range(MISSES):
            await here.reconcile()
        assert "lost" in ((await here.now(job)).detailed_status or "")


async def test_no_clear_answer_is_told(grid: Grid, database: Database, tmp_path: Path) -> None:
    async with bench(grid, database, tmp_path) as here:
        job = await here.posted(DELIV)
        here.jobs.states[DELIV, job.job_id] = "PONDERING"
        for _ in range(MISSES + 1):
            await here.reconcile()
        now = await here.now(job)
        assert (now.status, now.version) == (Status.TRANSFERRING, job.version + 1)
        assert "PONDERING" in (now.detailed_status or "")
        here.finish(DELIV, job)
        await here.reconcile()
        assert (await here.now(job)).status is Status.SUCCESS


async def test_an_fts_that_is_out_is_no_miss(
    grid: Grid, database: Database, alice: pki.Credential, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path) as here:
        here.delegated.held[alice.dn] = held(alice)
        job = await here.posted("'alice'", submitter=alice.dn, copied_as=CopiedAs.USER)
        here.server.on("GET", "/jobs", html(500))
        with pytest.raises(Unavailable):
            await here.reconcile()
        assert (await here.now(job)).fts_misses == 0

"""FTS is asked under each identity whose jobs it has; a credential may have gone meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from deliv_testbed import pki
from support.samples import BOB

from deliv.db.database import Database
from deliv.errors import Unavailable
from deliv.model.job import TransferIdentity
from deliv.model.states import Status
from integration.fts_bench import DELIV, MISSES, bench, held
from integration.scripted_fts import Grid, html


@pytest.fixture(scope="module")
def alice(grid: Grid) -> pki.Credential:
    return grid.authority.issue(pki.user_name("alice"))


async def test_each_identity_is_asked_for_its_own(
    grid: Grid, database: Database, alice: pki.Credential, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path) as here:
        here.delegated.held[alice.dn] = held(alice)
        ours = await here.posted(DELIV)
        theirs = await here.posted("'alice'", submitter=alice.dn, copied_as=TransferIdentity.USER)
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
        fine = await here.posted("'alice'", submitter=alice.dn, copied_as=TransferIdentity.USER)
        for dn in (BOB, "/CN=refused"):
            await here.posted("'alice'", submitter=dn, copied_as=TransferIdentity.USER)
        here.finish("'alice'", fine)
        assert await here.polling.poll_once() == 1
        assert (await here.now(fine)).status is Status.SUCCESS


async def test_a_job_that_only_its_user_may_see(
    grid: Grid, database: Database, alice: pki.Credential, tmp_path: Path
) -> None:
    """It is running under theirs, and unknown under deliv's own: that is no miss."""
    async with bench(grid, database, tmp_path) as here:
        here.delegated.held[alice.dn] = held(alice)
        job = await here.posted("'alice'", submitter=alice.dn, copied_as=TransferIdentity.USER)
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
    """It waits for them to delegate again, for as long as a job is waited for at all."""
    async with bench(grid, database, tmp_path) as here:
        job = await here.posted("'alice'", submitter=alice.dn, copied_as=TransferIdentity.USER)
        for _ in range(MISSES + 1):
            await here.reconcile()
        now = await here.now(job)
        assert (now.status, now.waiting_for) == (Status.TRANSFERRING, "delegation")
        sql = "UPDATE jobs SET waiting_since = waiting_since - INTERVAL 8 DAY WHERE job_id = %s"
        assert await here.parts.database.execute(sql, job.job_id)
        await here.reconcile()
        now = await here.now(job)
        assert (now.status, now.error_class) == (Status.ERROR, "credential")
        assert now.partial
        assert "delegate again" in (now.detailed_status or "")


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
        job = await here.posted("'alice'", submitter=alice.dn, copied_as=TransferIdentity.USER)
        here.server.on("GET", "/jobs", html(500))
        with pytest.raises(Unavailable):
            await here.reconcile()
        assert (await here.now(job)).fts_misses == 0

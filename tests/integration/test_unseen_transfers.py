"""FTS goes on with a transfer that deliv can't see: there is no other one, and an end to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from deliv_testbed import pki
from structlog.testing import capture_logs
from support.private_mariadb import Server
from support.samples import HOST, staged, submitted, transferring

from deliv.db.database import Database
from deliv.delivery.ending.failure import Failure
from deliv.delivery.endpoints import sid
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job, TransferIdentity
from deliv.model.phase import Phase, phase
from deliv.model.rest import operators_place
from deliv.model.states import Status
from integration.fts_bench import DELIV, MISSES, Bench, bench, held
from integration.scripted_delegation import WHOAMI
from integration.scripted_fts import Asked, Grid, Reply, html, reply

MANY = {"credential": 9, "other": 9}  # attempts that would be made


async def test_a_job_that_fts_does_not_show_any_more_ends(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.posted(DELIV)
        here.forbid(job)
        for _ in range(MISSES + 1):  # however often it was looked: others may yet give it back
            await here.reconcile()
        job = await here.now(job)
        assert (phase(job), job.attempt, job.fts_misses) == (Phase.COPYING, 1, 0)
        assert "waiting: FTS (fts1) does not let deliv see the transfer" in str(job.detailed_status)
        await here.long_unseen(job)
        await here.reconcile()
        job = await here.now(job)
        assert (job.status, job.error_class, job.attempt) == (Status.ERROR, "credential", 1)
        assert "Not enough permissions" in str(job.detailed_status)
        assert "may be left" in str(job.detailed_status)
        await here.cleanup.clean_up(job)
        job = await here.now(job)
        assert phase(job) is Phase.CLOSED
        assert job.time_released is not None


async def test_a_job_that_fts_shows_again_goes_on(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.posted(DELIV)
        here.forbid(job)
        await here.reconcile()
        assert (await here.now(job)).unseen_since is not None
        here.jobs.states[DELIV, job.job_id] = "ACTIVE"
        await here.reconcile()
        job = await here.now(job)
        assert (job.unseen_since, job.detailed_status, job.attempt) == (None, None, 1)


async def test_a_cancel_that_fts_forbids_ends(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.posted(DELIV)
        here.forbid(job)
        job = await here.cancellation.cancel(job.job_id)
        assert phase(job) is Phase.STOPPING
        assert job.due_at is not None
        assert "403" in str(job.detailed_status)
        job = await here.cancellation.proceed(await here.long_unseen(job))
        assert job.status is Status.CANCELLED
        assert "may be left" in str(job.detailed_status)
        await here.cleanup.clean_up(job)
        assert (await here.now(job)).time_released is not None


async def test_the_jobs_of_a_user_whom_fts_has_banned_end(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    """It says so on a page, whatever it is asked under their identity; what it had it cancelled."""
    alice = grid.authority.issue(pki.user_name("alice"))
    as_alice = {"submitter": alice.dn, "copied_as": TransferIdentity.USER}
    async with bench(grid, database, tmp_path) as here:
        here.delegated.held[alice.dn] = held(alice)
        copying = await here.posted("'alice'", **as_alice)
        cancelled = await here.posted("'alice'", **as_alice)
        to_begin = await here.store.update(
            await staged(here.store, **as_alice), stager_hostname="archive.example.org"
        )
        page = b"<!doctype html>\n<h1>Forbidden</h1>\n<p>The user has been banned</p>\n"
        banned = Reply(status=403, body=page, content_type="text/html; charset=utf-8")

        def unless_banned(answer: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
            return lambda asked: banned if "alice" in asked.subject else answer(asked)

        here.server.on("GET", "/whoami", unless_banned(lambda _: reply(WHOAMI)))
        here.server.on("GET", "/jobs", unless_banned(here.jobs.listed))
        for job in (copying, cancelled):
            for method in ("GET", "DELETE"):
                here.server.on(method, f"/jobs/{job.job_id}", banned)
        await here.transfers.start(to_begin)
        to_begin = await here.now(to_begin)
        assert (to_begin.status, to_begin.error_class) == (Status.ERROR, "banned")
        assert phase(await here.cancellation.cancel(cancelled.job_id)) is Phase.STOPPING
        with capture_logs() as logs:
            for _ in range(3):
                await here.polling.poll_once()
                await here.reconcile()
        event = "FTS can't be asked for a user"
        assert [one["log_level"] for one in logs if one["event"] == event].count("warning") == 1
        await here.long_unseen(copying)
        await here.reconcile()
        copying = await here.now(copying)
        assert (copying.status, copying.error_class) == (Status.ERROR, "banned")
        cancelled = await here.cancellation.proceed(await here.long_unseen(cancelled))
        assert cancelled.status is Status.CANCELLED


async def test_a_forbidden_withdrawal_gives_the_staged_copy_back_after_a_while(
    grid: Grid, migrated: Server, database: Database, tmp_path: Path
) -> None:
    """FTS may have taken it without deliv hearing so: it is asked to stop it for some time."""
    async with bench(grid, database, tmp_path) as here:
        job = await here.posted(DELIV)
        job = await here.store.update(job, fts_posted=None)
        here.forbid(job)
        job = await here.cancellation.forbid(job, "no rule allows it")
        await here.cleanup.clean_up(job)
        job = await here.now(job)
        assert (job.time_released, phase(job)) == (None, Phase.CLEANING_UP)
        migrated.rewrite("UPDATE jobs SET time_transferring = time_transferring - INTERVAL 1 DAY")
        await here.cleanup.clean_up(await here.now(job))
        assert (await here.now(job)).time_released is not None


async def test_a_repeated_post_of_a_job_that_fts_does_not_show(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    """It is there under its id: another attempt would be a second copy beside it."""
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await staged(here.store)
        job = await here.store.update(job, stager_hostname="archive.example.org")
        here.server.on("POST", "/jobs", html(500))
        await here.transfers.start(job)
        job = await here.now(job)
        assert job.fts_jobid == await here.endpoint.job_id(sid(job))
        duplicated = {"status": "409 Conflict", "message": "The sid provided is duplicated"}
        refusal = {"job_id": job.fts_jobid, "http_status": "403 Forbidden", "http_message": "No"}
        here.server.on("POST", "/jobs", reply(duplicated, 409))
        here.server.on("GET", f"/jobs/{job.fts_jobid}", reply(refusal, 403))
        await here.transfers.post(job)
        job = await here.now(job)
        assert (phase(job), job.attempt) == (Phase.COPYING, 1)


async def users_job(here: Bench, owner: pki.Credential) -> Job:
    here.delegated.held[owner.dn] = held(owner)
    return await here.posted("'alice'", submitter=owner.dn, copied_as=TransferIdentity.USER)


async def test_a_credential_that_ends_during_a_copy_makes_no_second_one(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    """FTS goes on with what it has; with another credential it is asked for that transfer."""
    alice = grid.authority.issue(pki.user_name("alice"))
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await users_job(here, alice)
        del here.delegated.held[alice.dn]
        for _ in range(MISSES + 1):
            await here.reconcile()
        blind = await here.now(job)
        assert (phase(blind), blind.attempt, blind.fts_misses) == (Phase.COPYING, 1, 0)
        assert "waiting: " in str(blind.detailed_status)
        here.delegated.held[alice.dn] = held(alice)
        await here.reconcile()
        seen = await here.now(job)
        assert (seen.attempt, seen.unseen_since, seen.detailed_status) == (1, None, None)
        here.finish("'alice'", job)
        await here.polling.poll_once()
        assert (await here.now(job)).status is Status.SUCCESS
        assert here.server.calls("POST", "/jobs") == []


async def test_blind_looks_are_no_misses(grid: Grid, database: Database, tmp_path: Path) -> None:
    """What FTS does not know once the credential is back, it has missed once."""
    alice = grid.authority.issue(pki.user_name("alice"))
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await users_job(here, alice)
        del here.delegated.held[alice.dn]
        for _ in range(MISSES):
            await here.reconcile()
        here.delegated.held[alice.dn] = held(alice)
        here.jobs.states.clear()
        await here.reconcile()
        now = await here.now(job)
        assert (now.status, now.attempt, now.fts_misses) == (Status.TRANSFERRING, 1, 1)
        assert now.unseen_since is None


async def test_a_credential_that_ends_between_two_posts(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    """The first may have arrived: with a credential again the same one is posted."""
    alice = grid.authority.issue(pki.user_name("alice"))
    async with bench(grid, database, tmp_path, **MANY) as here:
        here.delegated.held[alice.dn] = held(alice)
        job = await staged(here.store, submitter=alice.dn, copied_as=TransferIdentity.USER)
        job = await here.store.update(job, stager_hostname="archive.example.org")
        here.server.on("POST", "/jobs", html(500))
        await here.transfers.start(job)
        posted = (await here.now(job)).fts_jobid
        del here.delegated.held[alice.dn]
        await here.transfers.post(await here.now(job))
        job = await here.now(job)
        assert (phase(job), job.attempt, job.fts_jobid) == (Phase.HANDING_OVER, 1, posted)
        assert job.waiting_for == "delegation"
        here.delegated.held[alice.dn] = held(alice)
        here.server.on("POST", "/jobs", reply({"job_id": posted}))
        await here.transfers.post(job)
        job = await here.now(job)
        assert (phase(job), job.attempt, job.unseen_since) == (Phase.COPYING, 1, None)


async def test_a_credential_that_stays_away_between_two_posts(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    alice = grid.authority.issue(pki.user_name("alice"))
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.store.update(await users_job(here, alice), fts_posted=None)
        del here.delegated.held[alice.dn]
        await here.transfers.post(job)
        job = await here.now(job)
        assert (phase(job), job.waiting_for) == (Phase.HANDING_OVER, "delegation")
        await database.execute("UPDATE jobs SET waiting_since = NOW(6) - INTERVAL 8 DAY")
        await here.transfers.post(await here.now(job))
        job = await here.now(job)
        assert (job.status, job.error_class, job.attempt) == (Status.ERROR, "credential", 1)
        assert "may be left" in str(job.detailed_status)


async def test_a_user_whom_fts_shows_nothing_any_more(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    """Their VO has left this FTS, say."""
    alice = grid.authority.issue(pki.user_name("alice"))
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await users_job(here, alice)
        listed, refusal = here.jobs.listed, {"status": "403 Forbidden", "message": "No permission"}
        here.server.on(
            "GET",
            "/jobs",
            lambda asked: reply(refusal, 403) if "alice" in asked.subject else listed(asked),
        )
        for _ in range(MISSES + 1):
            await here.reconcile()
        now = await here.now(job)
        assert (phase(now), now.attempt, now.fts_misses) == (Phase.COPYING, 1, 0)
        await here.long_unseen(job)
        await here.reconcile()
        now = await here.now(job)
        assert (now.status, now.error_class, now.attempt) == (Status.ERROR, "credential", 1)
        assert "No permission" in str(now.detailed_status)


async def test_what_fts_had_before_a_restore_is_staged_for_though_its_host_rests(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    """Back in the queue it would go to any FTS later, beside the copy that this one makes."""
    async with bench(grid, database, tmp_path, **MANY) as here:
        await here.store.begin_rest(operators_place(HOST), "a new disk", None, "root")
        job = await submitted(here.store)
        await here.transfers.take_over(job, "fts1", 1)
        job = await here.now(job)
        assert phase(job) is Phase.ASKING_STAGER
        assert await here.parts.patience.released(job) == job


async def test_a_job_that_is_given_up_is_told_what_it_waited_for(
    grid: Grid, database: Database, migrated: Server, tmp_path: Path
) -> None:
    """Not what it has waited for since a moment ago."""
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await transferring(here.store)
        unreachable = Failure(
            error_class=ErrorClass.UNREACHABLE, reason="DESTINATION [111] Connection refused"
        )
        job = await here.failures.attempt(job, unreachable)
        migrated.rewrite(
            "UPDATE rests SET since = since - INTERVAL 2 HOUR",
            "UPDATE jobs SET time_submitted = time_submitted - INTERVAL 2 HOUR",
        )
        await here.store.begin_rest(operators_place(HOST), "a new disk", None, "root")
        assert await here.parts.patience.keep_trying() > 0
        job = await here.now(job)
        assert job.error_class == ErrorClass.UNREACHABLE
        assert "given up after 60 minutes: user.example.org can't" in (job.detailed_status or "")


@pytest.mark.parametrize("listed", [True, False])
async def test_a_state_that_deliv_does_not_know_has_an_end(
    grid: Grid, database: Database, tmp_path: Path, listed: bool
) -> None:
    """Also of a job that FTS lists among the unfinished ones."""
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.posted(DELIV)
        here.jobs.states[DELIV, job.job_id] = "A_NEW_ONE"
        if listed:
            unfinished = [{"job_id": job.job_id, "job_state": "A_NEW_ONE"}]
            here.server.on("GET", "/jobs", reply(unfinished))
        for _ in range(MISSES + 1):
            await here.reconcile()
        waits = await here.now(job)
        assert (phase(waits), waits.attempt, waits.fts_misses) == (Phase.COPYING, 1, 0)
        assert waits.unseen_since is not None
        unclear = "FTS (fts1) gives no clear answer on the copy: its state is A_NEW_ONE"
        assert waits.detailed_status == f"waiting: {unclear}"
        await here.long_unseen(job)
        await here.reconcile()
        ended = await here.now(job)
        assert (ended.status, ended.error_class, ended.attempt) == (Status.ERROR, "other", 1)
        assert str(ended.detailed_status).startswith(unclear)
        assert "may be left" in str(ended.detailed_status)


async def test_an_unknown_state_that_becomes_a_known_one_is_forgotten(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.posted(DELIV)
        here.jobs.states[DELIV, job.job_id] = "A_NEW_ONE"
        await here.reconcile()
        assert (await here.now(job)).unseen_since is not None
        here.jobs.states[DELIV, job.job_id] = "ACTIVE"
        await here.reconcile()
        job = await here.now(job)
        assert (job.unseen_since, job.detailed_status, job.attempt) == (None, None, 1)


async def test_an_unclear_answer_is_written_down_once(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    """FTS lists what has ended for minutes, and each poll looks at it."""
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.posted(DELIV)
        here.finish(DELIV, job)
        here.jobs.files[job.job_id] = {"filesize": -1}
        await here.polling.poll_once()
        first = await here.now(job)
        for _ in range(3):
            await here.polling.poll_once()
        assert first.unseen_since is not None
        assert (await here.now(job)).version == first.version


async def test_a_cancel_of_a_copy_in_an_unknown_state_ends(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path, **MANY) as here:
        job = await here.posted(DELIV)
        here.jobs.states[DELIV, job.job_id] = "A_NEW_ONE"
        stopped = reply({"job_id": job.job_id, "job_state": "A_NEW_ONE"})
        here.server.on("DELETE", f"/jobs/{job.job_id}", stopped)
        job = await here.cancellation.cancel(job.job_id)
        assert phase(job) is Phase.STOPPING
        assert job.due_at is not None
        job = await here.cancellation.proceed(await here.long_unseen(job))
        assert job.status is Status.CANCELLED
        assert "may be left" in str(job.detailed_status)

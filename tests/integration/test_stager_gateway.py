"""What the stager's answers mean to deliv: its refusals, and those of a proxy in front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from support.private_mariadb import Server
from support.samples import admitted, staged

from deliv import config
from deliv.config import Config
from deliv.delivery.ending.cleanup import Cleanup
from deliv.delivery.ending.failure import Failure, FailureHandler
from deliv.delivery.ending.withdrawal import Withdrawal
from deliv.delivery.stage import Staging
from deliv.errors import Refused, Unreachable
from deliv.gateways.breaker import BreakerState
from deliv.gateways.https import HttpsClient
from deliv.gateways.stager import Stager
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job
from deliv.model.states import Event, Status
from deliv.store import NOW, Store
from integration.scripted_fts import Grid, Reply, ScriptedFts, html, reply

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"
SETTINGS: Config = config.load(EXAMPLE)
SLOTS = 16  # the connections that deliv has to one server
UNKNOWN = reply({"error": True, "msg": "no such product"}, 404)
# What something else says in the stager's place, and what is about deliv rather than a product.
NOT_ITS_OWN = {
    "a page": html(200),
    "a redirection": html(302),
    "a page that forbids": html(403),
    "a page that finds nothing": html(404),
    "too many requests": reply({}, 429),
    "an error": reply({}, 500),
    "nobody": reply({"msg": "who are you?"}, 401),
    "not you": reply({"msg": "your DN is not among those I serve"}, 403),
}
ANSWERS = pytest.mark.parametrize("answer", NOT_ITS_OWN.values(), ids=NOT_ITS_OWN.keys())


@asynccontextmanager
async def stagers(grid: Grid) -> AsyncIterator[tuple[Stager, ScriptedFts]]:
    """deliv's gateway, and a server in the stager's place."""
    https = HttpsClient(grid.credential, grid.ca_directory)
    async with ScriptedFts(grid) as server:
        settings = config.StagerSettings(url=config.HttpsUrl(server.url), gridftp_hosts=("h",))
        yield Stager(settings, https, "https://deliv.example.org/doneStaging"), server
    https.close()


def staging(store: Store, stager: Stager) -> Staging:
    return Staging(store, stager, FailureHandler(store, SETTINGS), SETTINGS)


async def now(store: Store, job: Job) -> Job:
    known = await store.job(job.job_id)
    assert known is not None
    return known


@ANSWERS
async def test_a_job_waits_for_the_stager_itself(grid: Grid, store: Store, answer: Reply) -> None:
    job = await admitted(store)
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", answer)
        await staging(store, stager).request(job)
    job = await now(store, job)
    assert (job.status, job.attempt) == (Status.STAGING, 1)
    assert (job.stager_status or "").startswith("not reached yet: the stager answered")
    assert job.due_at is not None


async def test_what_the_stager_refuses_ends_the_job(grid: Grid, store: Store) -> None:
    job = await admitted(store)
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", UNKNOWN)
        await staging(store, stager).request(job)
    job = await now(store, job)
    assert (job.status, job.error_class) == (Status.ERROR, "stager")
    assert "the stager refused (404): no such product" in (job.detailed_status or "")


async def test_a_product_is_staged_again_once_its_first_copy_is_given_back(
    grid: Grid, store: Store
) -> None:
    """The stager would report that copy again, which was corrupt or unreadable."""
    job = await staged(store)
    job = await store.apply(job, Event.RESTAGE, attempt=2, stager_callback=None)
    release = f"/stage/{job.job_id}"
    async with stagers(grid) as (stager, server):
        server.on("DELETE", release, html(502), reply({}))
        server.on("POST", "/stage", reply({}))
        await staging(store, stager).request(job)
        job = await now(store, job)
        assert (job.stager_status or "").startswith("not reached yet")
        assert not server.calls("POST", "/stage")
        await staging(store, stager).request(job)
        asked = [(one.method, one.path) for one in server.asked]
    assert asked == [("DELETE", release), ("DELETE", release), ("POST", "/stage")]
    assert (await now(store, job)).stager_status == "accepted"


@ANSWERS
async def test_a_release_is_confirmed_by_the_stager_alone(grid: Grid, answer: Reply) -> None:
    async with stagers(grid) as (stager, server):
        server.on("DELETE", "/stage/j", answer, UNKNOWN)
        with pytest.raises(Unreachable):
            await stager.release("j")
        await stager.release("j")


async def test_a_refusal_in_plain_text_is_told(grid: Grid) -> None:
    async with stagers(grid) as (stager, server):
        server.on("DELETE", "/stage/j", Reply(status=409, body=b"in use\n", content_type="text/x"))
        with pytest.raises(Refused, match=r"refused \(409\): in use$"):
            await stager.release("j")


async def test_a_stager_that_fails_is_left_alone_for_a_while(grid: Grid, store: Store) -> None:
    """So that jobs which don't need it are not kept waiting by its time-outs."""
    job = await admitted(store)
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", html(502))
        for _ in range(3):
            with pytest.raises(Unreachable, match="answered 502"):
                await stager.stage(job, "code")
        assert stager.breaker.state is BreakerState.OPEN
        with pytest.raises(Unreachable, match="the stager is left alone after failures"):
            await stager.stage(job, "code")
        assert len(server.asked) == 3


async def test_a_stager_whose_release_alone_fails_goes_on_staging(grid: Grid, store: Store) -> None:
    job = await admitted(store)
    async with stagers(grid) as (stager, server):
        server.on("DELETE", "/stage/j", html(500))
        server.on("POST", "/stage", reply({}))
        for _ in range(3):
            with pytest.raises(Unreachable, match="answered 500"):
                await stager.release("j")
        with pytest.raises(Unreachable, match="the stager is left alone after failures"):
            await stager.release("j")
        await stager.stage(job, "code")
        assert stager.breaker.state is BreakerState.CLOSED
        assert [asked.method for asked in server.asked] == ["DELETE"] * 3 + ["POST"]


async def test_releases_that_hang_leave_room_for_staging(grid: Grid, store: Store) -> None:
    job = await admitted(store)
    async with stagers(grid) as (stager, server):
        server.on("DELETE", "/stage/j", reply({}, delay=80.0))
        server.on("POST", "/stage", reply({}))
        hanging = [asyncio.create_task(stager.release("j")) for _ in range(SLOTS)]
        while len(server.asked) < SLOTS:
            await asyncio.sleep(0.01)
        await stager.stage(job, "code")
        given_up = [task for task in hanging if task.done()]
        assert given_up == []
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


@pytest.mark.parametrize(("ago", "least", "most"), [(100, 100, 300), (3600, 240, 300)])
async def test_a_release_that_goes_on_failing_is_tried_less_often(
    grid: Grid, store: Store, migrated: Server, ago: int, least: int, most: int
) -> None:
    job = await store.apply(await admitted(store), Event.CANCEL)
    migrated.rewrite(f"UPDATE jobs SET time_cancelled = NOW(6) - INTERVAL {ago} SECOND")  # noqa: S608 - a number
    async with stagers(grid) as (stager, server):
        server.on("DELETE", f"/stage/{job.job_id}", html(500))
        # Of transfers it has none to withdraw.
        cleanup = Cleanup(store, stager, cast(Withdrawal, NothingAtFts()), SETTINGS)
        await cleanup.clean_up(await now(store, job))
    job = await now(store, job)
    assert job.due_at is not None
    assert least < (job.due_at - datetime.now(UTC)).total_seconds() <= most


class NothingAtFts:
    async def withdraw(self, _job: Job) -> None:
        pass


async def test_staging_is_timed_out_when_its_time_is_over_and_not_before(
    grid: Grid, store: Store, migrated: Server
) -> None:
    """However it comes to be looked at: `deliv check --repair` makes idle jobs due."""
    job = await admitted(store)
    job = await store.update(job, delay=0, stager_accepted=NOW)
    async with stagers(grid) as (stager, _):
        await staging(store, stager).time_out(job)
        waiting = await now(store, job)
        assert (waiting.status, waiting.attempt) == (Status.STAGING, 1)
        assert waiting.due_at is not None
        assert waiting.stager_accepted is not None
        seconds = (waiting.due_at - waiting.stager_accepted).total_seconds()
        assert seconds == pytest.approx(float(SETTINGS.stager.timeout), abs=1)
        migrated.run("UPDATE jobs SET stager_accepted = stager_accepted - INTERVAL 2 DAY")
        await staging(store, stager).time_out(await now(store, job))
    assert (await now(store, job)).attempt == 2


async def test_an_attempt_that_deliv_comes_to_late_is_asked_for(
    grid: Grid, store: Store, migrated: Server
) -> None:
    """The stager has its time from then on; a retry's pause may have been longer than that."""
    job = await FailureHandler(store, SETTINGS).attempt(
        await store.update(await admitted(store), stager_status="accepted"),
        Failure(error_class=ErrorClass.TIMEOUT, reason="too late"),
    )
    migrated.run("UPDATE jobs SET time_staging = time_staging - INTERVAL 2 DAY")
    async with stagers(grid) as (stager, server):
        server.on("DELETE", f"/stage/{job.job_id}", reply({}))
        server.on("POST", "/stage", reply({}))
        await staging(store, stager).request(await now(store, job))
        await staging(store, stager).time_out(await now(store, job))
    job = await now(store, job)
    assert (job.attempt, job.stager_status) == (2, "accepted")
    assert job.due_at is not None
    left = (job.due_at - datetime.now(UTC)).total_seconds()
    assert left == pytest.approx(float(SETTINGS.stager.timeout), abs=60)


async def test_a_late_attempt_whose_stager_is_not_reached_ends(
    grid: Grid, store: Store, migrated: Server
) -> None:
    job = await admitted(store)
    migrated.run("UPDATE jobs SET time_staging = time_staging - INTERVAL 2 DAY")
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", html(502))
        for attempt in (1, 2):
            await staging(store, stager).request(await now(store, job))
            assert (await now(store, job)).attempt == attempt
        assert len(server.calls("POST", "/stage")) == 1

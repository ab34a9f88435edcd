"""What the stager's answers mean to deliv: its refusals, and those of a proxy in front."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from support.private_mariadb import Server
from support.samples import admitted, staged, transferring

from deliv import config
from deliv.config import Config
from deliv.delivery.ending.cleanup import Cleanup
from deliv.delivery.ending.failure import FRESH_STAGING, Failure, FailureHandler
from deliv.delivery.ending.withdrawal import Withdrawal
from deliv.delivery.stage import Staging
from deliv.errors import Refused, Unreachable
from deliv.gateways.breaker import BreakerState
from deliv.gateways.https import HttpsClient
from deliv.gateways.stager import Stager
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job
from deliv.model.phase import AT_STAGER, phase
from deliv.model.rest import Cause
from deliv.model.staging import SharedStaging, StagingState
from deliv.model.states import Event, Status
from deliv.store import NOW, Store
from integration.scripted_fts import Grid, Reply, ScriptedFts, html, reply

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"
SETTINGS: Config = config.load(EXAMPLE)
STAGING = SharedStaging(staging_id="s", product_id="p", begun=datetime.now(UTC))
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


async def proceed(store: Store, stager: Stager, job: Job) -> Job:
    """What the engine and the sweep do until the job and its staging rest; the job."""
    service = staging(store, stager)
    await service.proceed(await now(store, job))
    if (staging_id := (await now(store, job)).staging_id) is not None:
        await service.requests.attend(staging_id)
    if phase(job := await now(store, job)) in AT_STAGER:
        await service.proceed(job)
    return await now(store, job)


async def now(store: Store, job: Job) -> Job:
    known = await store.job(job.job_id)
    assert known is not None
    return known


@ANSWERS
async def test_a_job_waits_for_the_stager_itself(grid: Grid, store: Store, answer: Reply) -> None:
    job = await admitted(store)
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", answer)
        await staging(store, stager).proceed(job)
    job = await now(store, job)
    assert (job.status, job.attempt) == (Status.STAGING, 1)
    assert (job.stager_status or "").startswith("not reached yet: the stager answered")
    assert job.due_at is not None


async def test_what_the_stager_refuses_ends_the_job(grid: Grid, store: Store) -> None:
    job = await admitted(store)
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", UNKNOWN)
        await staging(store, stager).proceed(job)
    job = await now(store, job)
    assert (job.status, job.error_class) == (Status.ERROR, "stager")
    assert "the stager refused (404): no such product" in (job.detailed_status or "")


async def test_a_product_is_staged_again_by_another_id(grid: Grid, store: Store) -> None:
    """The stager would report the first copy again, which was corrupt or unreadable."""
    job = await admitted(store)
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", reply({}))
        first = await proceed(store, stager, job)
        job = await store.apply(first, Event.STAGED, time_staged=NOW)
        job = await store.apply(job, Event.RESTAGE, attempt=2, **FRESH_STAGING)
        again = await proceed(store, stager, job)
        asked = [json.loads(one.body)["job_id"] for one in server.calls("POST", "/stage")]
        assert asked == [first.staging_id, again.staging_id]
        assert first.staging_id == job.job_id != again.staging_id
        release = f"/stage/{first.staging_id}"
        server.on("DELETE", release, html(502), reply({}))
        for _ in range(2):
            assert first.staging_id in await store.due_stagings(10)
            await staging(store, stager).requests.attend(first.staging_id)
            await due_now(store, first.staging_id)
        assert len(server.calls("DELETE", release)) == 2
    given_back = await store.staging(first.staging_id)
    assert given_back is not None
    assert given_back.state is StagingState.RELEASED


async def test_what_the_release_before_had_staged_is_given_back_for_another_attempt(
    grid: Grid, store: Store
) -> None:
    """It knew each copy by the id of its job."""
    job = await staged(store)
    job = await store.apply(job, Event.RESTAGE, attempt=2, stager_callback=None)
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", reply({}))
        server.on("DELETE", f"/stage/{job.job_id}", reply({}))
        again = await proceed(store, stager, job)
        assert again.staging_id != job.job_id
        assert await store.due_stagings(10) == [job.job_id]
        await staging(store, stager).requests.attend(job.job_id)
        assert len(server.calls("DELETE", f"/stage/{job.job_id}")) == 1


async def due_now(store: Store, staging_id: str) -> None:
    known = await store.staging(staging_id)
    assert known is not None
    await store.update_staging(known, delay=0)


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


async def test_a_stager_that_fails_is_left_alone_for_a_while(grid: Grid) -> None:
    """So that jobs which don't need it are not kept waiting by its time-outs."""
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", html(502))
        for _ in range(3):
            with pytest.raises(Unreachable, match="answered 502"):
                await stager.stage(STAGING, "code")
        assert stager.breaker.state is BreakerState.OPEN
        with pytest.raises(Unreachable, match="the stager is left alone after failures"):
            await stager.stage(STAGING, "code")
        assert len(server.asked) == 3


async def test_a_stager_whose_release_alone_fails_goes_on_staging(grid: Grid) -> None:
    async with stagers(grid) as (stager, server):
        server.on("DELETE", "/stage/j", html(500))
        server.on("POST", "/stage", reply({}))
        for _ in range(3):
            with pytest.raises(Unreachable, match="answered 500"):
                await stager.release("j")
        with pytest.raises(Unreachable, match="the stager is left alone after failures"):
            await stager.release("j")
        await stager.stage(STAGING, "code")
        assert stager.breaker.state is BreakerState.CLOSED
        assert [asked.method for asked in server.asked] == ["DELETE"] * 3 + ["POST"]


async def test_releases_that_hang_leave_room_for_staging(grid: Grid) -> None:
    async with stagers(grid) as (stager, server):
        server.on("DELETE", "/stage/j", reply({}, delay=80.0))
        server.on("POST", "/stage", reply({}))
        hanging = [asyncio.create_task(stager.release("j")) for _ in range(SLOTS)]
        while len(server.asked) < SLOTS:
            await asyncio.sleep(0.01)
        await stager.stage(STAGING, "code")
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
    job = await store.update(job, delay=0, stager_callback="ab" * 16, stager_accepted=NOW)
    async with stagers(grid) as (stager, _):
        waiting = await proceed(store, stager, job)
        assert (waiting.status, waiting.attempt) == (Status.STAGING, 1)
        nearly = float(SETTINGS.stager.timeout) - 100
        migrated.run(
            f"UPDATE stagings SET accepted = NOW(6) - INTERVAL {nearly} SECOND, due_at = NOW(6)"  # noqa: S608 - a number
        )
        assert (await proceed(store, stager, job)).attempt == 1
        known = await store.staging(job.job_id)
        assert known is not None
        assert known.due_at is not None
        assert known.accepted is not None
        seconds = (known.due_at - known.accepted).total_seconds()
        assert seconds == pytest.approx(float(SETTINGS.stager.timeout), abs=1)
        migrated.run("UPDATE stagings SET accepted = accepted - INTERVAL 2 DAY, due_at = NOW(6)")
        assert (await proceed(store, stager, job)).attempt == 2


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
        server.on("POST", "/stage", reply({}))
        job = await proceed(store, stager, job)
    assert (job.attempt, job.stager_status) == (2, "accepted")
    assert job.due_at is not None
    left = (job.due_at - datetime.now(UTC)).total_seconds()
    assert left == pytest.approx(float(SETTINGS.stager.timeout), abs=60)


async def test_the_server_of_the_staged_copy_is_not_waited_for_without_an_end(
    store: Store,
) -> None:
    """A name that nobody knows, say: the pauses count, between which it is tried."""
    failures = FailureHandler(store, SETTINGS)
    unreachable = Failure(
        error_class=ErrorClass.UNREACHABLE, reason="SOURCE [70] Unable to connect: refused"
    )
    job = await failures.attempt(await transferring(store), unreachable)
    assert (job.attempt, job.waiting_for) == (2, Cause.ARCHIVE)
    job = await failures.attempt(await store.update(job, excused=1000), unreachable)
    assert (job.status, job.error_class) == (Status.ERROR, ErrorClass.UNREACHABLE)
    assert "given up after 7 days: SOURCE [70]" in (job.detailed_status or "")


async def test_a_stager_that_is_not_reached_is_waited_for(
    grid: Grid, store: Store, migrated: Server
) -> None:
    """By all jobs of the staging, longer than a product may take, until their patience ends."""
    job = await admitted(store)
    async with stagers(grid) as (stager, server):
        server.on("POST", "/stage", html(502), html(502), html(502), reply({}))
        await proceed(store, stager, job)
        migrated.run("UPDATE stagings SET due_at = NOW(6)")
        migrated.rewrite("UPDATE stagings SET begun = begun - INTERVAL 2 DAY")
        other = await proceed(store, stager, await admitted(store))
        for one in (await now(store, job), other):
            assert (one.attempt, one.waiting_for) == (1, Cause.ARCHIVE)
            assert one.due_at is not None
            assert (one.stager_status or "").startswith("not reached yet")
        longer = "UPDATE jobs SET waiting_since = NOW(6) - INTERVAL 8 DAY ORDER BY job_id LIMIT 1"
        migrated.run(longer, "UPDATE stagings SET due_at = NOW(6)")
        await proceed(store, stager, other)
        given_up = await now(store, job)
        assert (given_up.status, given_up.error_class) == (Status.ERROR, "timeout")
        migrated.run("UPDATE stagings SET due_at = NOW(6)")
        stager.breaker.succeeded()
        going_on = await proceed(store, stager, other)
    assert (going_on.stager_status, going_on.waiting_for) == ("accepted", None)
    assert going_on.detailed_status is None

"""One staging for many jobs: deliv's own parts on a real MariaDB, and a stager that remembers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from support.samples import LIMITS, submitted

from deliv.db.database import Database
from deliv.delivery.ending.cleanup import Cleanup
from deliv.delivery.ending.failure import Failure, FailureHandler
from deliv.delivery.ending.withdrawal import Withdrawal
from deliv.delivery.stage import Staging
from deliv.errors import Forbidden
from deliv.gateways.stager import Stager
from deliv.http.handlers.job_view import public
from deliv.model.error_classes import ErrorClass
from deliv.model.file import FileListing, ReportedFile
from deliv.model.job import Job, StageReport
from deliv.model.phase import AT_STAGER, Phase, phase
from deliv.model.staging import SharedStaging, StagingState
from deliv.model.states import Event
from deliv.store import NOW, Store
from integration.scripted_fts import Asked, Grid, Reply, ScriptedFts, reply
from integration.test_stager_gateway import SETTINGS, NothingAtFts, stagers
from integration.test_store_archive import DAY, held

pytestmark = pytest.mark.usefixtures("counted")

USERS = [f"/CN=user{number}" for number in range(4)]
MANY = 20
PRODUCT = "1234567890"


@dataclass
class World:
    """The stager's part is `codes`, by the id that it knows each staging by."""

    store: Store
    server: ScriptedFts
    stager: Stager
    staging: Staging
    cleanup: Cleanup
    failures: FailureHandler
    codes: dict[str, str] = field(default_factory=dict)

    def take(self, asked: Asked) -> Reply:
        body = json.loads(asked.body)
        self.codes[body["job_id"]] = body["authcode"]
        return reply({})

    async def queued(self, submitter: str = USERS[0], **changes: Any) -> Job:
        return await submitted(self.store, submitter=submitter, **changes)

    async def admitted(self, submitter: str = USERS[0], **changes: Any) -> Job:
        job = await self.queued(submitter, **changes)
        while (now := await self.store.admit(LIMITS.staging)) and now.job_id != job.job_id:
            pass
        assert now is not None
        return now

    async def now(self, job: Job) -> Job:
        known = await self.store.job(job.job_id)
        assert known is not None
        return known

    async def step(self, job: Job) -> Job:
        """What the engine does for the job while it is with the stager, and when it has ended."""
        job = await self.now(job)
        if phase(job) in AT_STAGER:
            await self.staging.proceed(job)
        elif phase(job) is Phase.CLEANING_UP:
            await self.cleanup.clean_up(job)
        return await self.now(job)

    async def steps(self, jobs: list[Job]) -> list[Job]:
        return [await self.step(job) for job in jobs]

    async def sweep(self) -> None:
        for staging_id in await self.store.due_stagings(100):
            await self.staging.requests.attend(staging_id)

    async def known(self, staging_id: str | None) -> SharedStaging:
        staging = await self.store.staging(staging_id or "")
        assert staging is not None
        return staging

    async def report(self, staging_id: str, **changes: Any) -> None:
        usual: dict[str, Any] = {
            "job_id": staging_id,
            "product_id": PRODUCT,
            "authcode": self.codes[staging_id],
            "success": True,
            "staged_to": "archive.example.org",
            "path": f"/staging/{staging_id}/a",
            "msg": None,
        }
        await self.staging.report(StageReport(**usual | changes))

    async def end(self, job: Job, event: Event = Event.DELIVER) -> Job:
        """The job when it has ended, and whatever it held is given back."""
        job = await self.now(job)
        if event is Event.DELIVER:
            job = await self.store.apply(job, Event.TRANSFER)
        await self.store.apply(job, event)
        return await self.step(job)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """What the stager was asked: to stage or to release, and by which id."""
        return [
            ("stage", json.loads(asked.body)["job_id"])
            if asked.method == "POST"
            else ("release", asked.path.removeprefix("/stage/"))
            for asked in self.server.asked
        ]


@asynccontextmanager
async def opened(grid: Grid, store: Store) -> AsyncIterator[World]:
    async with stagers(grid) as (stager, server):
        failures = FailureHandler(store, SETTINGS)
        cleanup = Cleanup(store, stager, cast(Withdrawal, NothingAtFts()), SETTINGS)
        staging = Staging(store, stager, failures, SETTINGS)
        world = World(store, server, stager, staging, cleanup, failures)
        server.on("POST", "/stage", world.take)
        server.on("DELETE", "/stage/*", reply({}))
        yield world


async def many(world: World) -> list[Job]:
    jobs = [await world.admitted(USERS[number % 4]) for number in range(MANY)]
    return await world.steps(jobs)


async def test_many_jobs_of_four_users_are_staged_once_and_given_back_once(
    grid: Grid, store: Store
) -> None:
    async with opened(grid, store) as world:
        jobs = await many(world)
        (first, *_) = jobs
        assert {job.staging_id for job in jobs} == {first.job_id}
        assert {phase(job) for job in jobs} == {Phase.WAITING_FOR_STAGER}
        await world.report(first.job_id)
        jobs = await world.steps(jobs)
        assert {phase(job) for job in jobs} == {Phase.STAGED}
        assert {job.stager_path for job in jobs} == {f"/staging/{first.job_id}/a"}
        for job in jobs:
            assert world.calls == [("stage", first.job_id)]
            assert phase(await world.end(job)) is Phase.CLOSED
        assert world.calls == [("stage", first.job_id), ("release", first.job_id)]
        assert (await world.known(first.job_id)).state is StagingState.RELEASED
        assert await store.due_stagings(10) == []


async def test_jobs_that_come_at_once_open_one_staging(grid: Grid, store: Store) -> None:
    async with opened(grid, store) as world:
        jobs = [await world.admitted(user) for user in USERS]
        await asyncio.gather(*(world.staging.proceed(job) for job in jobs))
        jobs = [await world.now(job) for job in jobs]
        assert len({job.staging_id for job in jobs}) == len(world.calls) == 1


async def test_cancelled_and_failed_jobs_take_nothing_from_the_others(
    grid: Grid, store: Store
) -> None:
    """Not even the one that opened the staging, while it is asked for."""
    async with opened(grid, store) as world:
        jobs = await many(world)
        first = jobs[0]
        for job in jobs[:5]:
            assert phase(await world.end(job, Event.CANCEL)) is Phase.CLOSED
        await world.report(first.job_id)
        for job in jobs[5:10]:
            await world.step(job)
            assert phase(await world.end(job, Event.FAIL)) is Phase.CLOSED
        for job in await world.steps(jobs[10:]):
            assert world.calls == [("stage", first.job_id)]
            assert phase(await world.end(job)) is Phase.CLOSED
        assert world.calls == [("stage", first.job_id), ("release", first.job_id)]


async def test_a_report_leaves_an_ended_job_to_its_own_worker(grid: Grid, store: Store) -> None:
    """The one that opened the staging: its copy must not be kept by a claim."""
    async with opened(grid, store) as world:
        first, other = await world.steps([await world.admitted(), await world.admitted(USERS[1])])
        ended = await store.apply(await world.now(first), Event.CANCEL)
        await world.report(first.job_id)
        assert (await world.now(first)).version == ended.version
        assert phase(await world.step(other)) is Phase.STAGED


async def test_a_job_that_comes_while_the_copy_lies_there_has_it_at_once(
    grid: Grid, store: Store
) -> None:
    async with opened(grid, store) as world:
        first = await world.step(await world.admitted())
        await world.report(first.job_id, size=5, checksum="ADLER32:00000001")
        late = await world.step(await world.admitted(USERS[1]))
        assert phase(late) is Phase.STAGED
        assert (late.product_size, late.checksum) == (5, "ADLER32:00000001")
        assert world.calls == [("stage", first.job_id)]


async def test_a_job_that_comes_in_the_moment_of_the_release_is_staged_for_itself(
    grid: Grid, store: Store
) -> None:
    """The stager is being asked to give the copy back: nobody may count on it any more."""
    async with opened(grid, store) as world:
        first = await world.step(await world.admitted())
        await world.report(first.job_id)
        going, arrived = asyncio.Event(), asyncio.Event()

        def slow(_: Asked) -> Reply:
            arrived.set()
            return reply({}, after=going)

        world.server.on("DELETE", f"/stage/{first.job_id}", slow)
        ending = asyncio.create_task(world.end(first))
        await arrived.wait()
        late = await world.step(await world.admitted(USERS[1]))
        going.set()
        assert phase(await ending) is Phase.CLOSED
        assert late.staging_id == late.job_id
        ids = [("stage", first.job_id), ("release", first.job_id), ("stage", late.job_id)]
        assert world.calls == ids


async def test_a_staging_that_fails_tells_all_its_jobs(grid: Grid, store: Store) -> None:
    async with opened(grid, store) as world:
        jobs = await many(world)
        first = jobs[0]
        await world.report(first.job_id, success=False, msg="the tape can't be read")
        jobs = await world.steps(jobs)
        assert {job.error_class for job in jobs} == {"stager"}
        assert all("the tape can't be read" in str(job.detailed_status) for job in jobs)
        assert {phase(job) for job in await world.steps(jobs)} == {Phase.CLOSED}
        assert world.calls == [("stage", first.job_id), ("release", first.job_id)]


async def test_a_job_that_comes_after_the_failure_is_staged_for_itself(
    grid: Grid, store: Store
) -> None:
    async with opened(grid, store) as world:
        first = await world.step(await world.admitted())
        await world.report(first.job_id, success=False, msg="the tape can't be read")
        late = await world.step(await world.admitted(USERS[1]))
        assert late.staging_id == late.job_id


async def restaged(world: World, job: Job) -> Job:
    """FTS has found its copy corrupt."""
    job = await world.store.apply(await world.now(job), Event.TRANSFER)
    corrupt = Failure(error_class=ErrorClass.CHECKSUM, reason="damaged", corrupt_source=True)
    return await world.failures.attempt(job, corrupt)


async def test_a_corrupt_copy_is_staged_once_more_for_all(grid: Grid, store: Store) -> None:
    """It is given back when the last of its jobs has left it, and by an id of its own."""
    async with opened(grid, store) as world:
        jobs = await many(world)
        first = jobs[0].job_id
        await world.report(first)
        jobs = await world.steps(jobs)
        again = [await world.step(await restaged(world, job)) for job in jobs[:10]]
        await world.sweep()
        second = again[0].staging_id or ""
        assert second != first
        assert {(job.staging_id, job.attempt) for job in again} == {(second, 2)}
        assert world.calls == [("stage", first), ("stage", second)]
        again += [await world.step(await restaged(world, job)) for job in jobs[10:]]
        await world.sweep()
        assert world.calls == [("stage", first), ("stage", second), ("release", first)]
        await world.report(second)
        for job in await world.steps(again):
            assert phase(job) is Phase.STAGED
            assert phase(await world.end(job)) is Phase.CLOSED
        assert world.calls[3:] == [("release", second)]


async def test_a_new_job_does_not_join_a_copy_that_was_found_corrupt(
    grid: Grid, store: Store
) -> None:
    async with opened(grid, store) as world:
        first, reads = await world.admitted(), await world.admitted(USERS[1])
        await world.steps([first, reads])
        await world.report(first.job_id)
        await world.steps([first, reads])
        await restaged(world, first)
        late = await world.step(await world.admitted(USERS[2]))
        assert late.staging_id == late.job_id
        assert (await world.step(first)).staging_id == late.job_id
        assert (await world.now(reads)).staging_id == first.job_id


async def test_a_timeout_tells_all_and_the_next_attempt_is_one_staging(
    grid: Grid, store: Store, database: Database
) -> None:
    async with opened(grid, store) as world:
        jobs = await many(world)
        later = "UPDATE stagings SET accepted = accepted - INTERVAL 2 DAY, due_at = NOW(6)"
        await database.execute(later)
        await world.sweep()
        jobs = await world.steps(jobs)
        assert {(job.attempt, job.staging_id) for job in jobs} == {(2, None)}
        jobs = await world.steps(jobs)
        await world.sweep()
        (second,) = {job.staging_id for job in jobs}
        staged = [staging_id for what, staging_id in world.calls if what == "stage"]
        assert staged == [jobs[0].job_id, second]
        assert ("release", jobs[0].job_id) in world.calls


async def test_each_job_has_the_files_of_its_own_and_they_go_with_the_staging(
    grid: Grid, store: Store, database: Database
) -> None:
    async with opened(grid, store) as world:
        jobs = [await world.admitted(user) for user in USERS]
        await world.steps(jobs)
        first = jobs[0].job_id
        listed = [ReportedFile(name=f"{number:04}", size=1) for number in range(1200)]
        await world.report(first, files=listed)
        jobs = await world.steps(jobs)
        for job in jobs:
            assert (job.files_total, job.bytes_total) == (1200, 1200)
            page = await store.files(job, FileListing(limit=2000))
            assert [file.name for file in page] == [file.name for file in listed]
            await world.end(job, Event.CANCEL)
        await world.sweep()
        assert await database.query("SELECT * FROM staging_files") == []
        assert await store.due_stagings(10) == []


async def test_a_destination_that_is_too_deep_for_the_files_fails_alone(
    grid: Grid, store: Store
) -> None:
    async with opened(grid, store) as world:
        deep = f"gsiftp://user.example.org/{'d' * 900}"
        jobs = [await world.admitted(destination_path=deep), await world.admitted(USERS[1])]
        await world.steps(jobs)
        await world.report(jobs[0].job_id, files=[ReportedFile(name="x" * 300, size=1)])
        too_deep, other = await world.steps(jobs)
        assert (too_deep.error_class, phase(other)) == ("stager", Phase.STAGED)
        assert "longer URL at the destination" in str(too_deep.detailed_status)


async def test_no_job_shows_the_id_of_another(grid: Grid, store: Store) -> None:
    async with opened(grid, store) as world:
        first, other = await world.steps([await world.admitted(), await world.admitted(USERS[1])])
        await world.report(first.job_id, msg=f"staged for {first.job_id}")
        first, other = await world.steps([first, other])
        assert first.job_id in public(first)["stager_path"]
        shown = public(other)
        assert shown["stager_path"] == "/staging/STAGING/a"
        assert shown["stager_status"] == "staged for STAGING"
        assert first.job_id not in str(shown)


async def test_what_the_release_before_asked_for_is_taken_and_not_shared(
    grid: Grid, store: Store
) -> None:
    async with opened(grid, store) as world:
        shared = await world.step(await world.admitted())
        alone = await world.admitted(USERS[1])
        digest = (await world.known(shared.job_id)).code
        alone = await store.update(alone, stager_callback=digest, stager_accepted=NOW)
        world.codes[alone.job_id] = world.codes[shared.job_id]
        await world.report(alone.job_id)
        assert phase(await world.now(alone)) is Phase.STAGED
        assert phase(await world.now(shared)) is Phase.WAITING_FOR_STAGER
        await world.end(alone)
        assert world.calls == [("stage", shared.job_id), ("release", alone.job_id)]


async def test_the_release_before_can_take_the_report_for_the_job_that_opened_it(
    grid: Grid, store: Store
) -> None:
    async with opened(grid, store) as world:
        first, other = await world.steps([await world.admitted(), await world.admitted(USERS[1])])
        assert first.stager_callback == (await world.known(first.job_id)).code
        assert other.stager_callback is None


async def test_a_job_that_the_release_before_asks_for_leaves_its_staging(
    grid: Grid, store: Store
) -> None:
    async with opened(grid, store) as world:
        first, other = await world.steps([await world.admitted(), await world.admitted(USERS[1])])
        assert (await store.update(other, stager_callback="ab" * 16)).staging_id is None
        late = await world.step(await world.admitted(USERS[2]))
        assert late.staging_id == first.staging_id


async def test_a_code_is_good_once_and_for_its_staging(grid: Grid, store: Store) -> None:
    async with opened(grid, store) as world:
        first = await world.step(await world.admitted())
        another = await world.step(await world.admitted(product_id="another"))
        wrong = world.codes[another.job_id]
        for changes in ({"authcode": wrong}, {"product_id": "another"}):
            with pytest.raises(Forbidden):
                await world.report(first.job_id, **changes)
        await world.report(first.job_id)
        with pytest.raises(Forbidden):
            await world.report(first.job_id)


async def test_what_is_staged_after_the_release_is_given_back_again(
    grid: Grid, store: Store
) -> None:
    """The stager reports to a staging that is over, with an outdated code."""
    async with opened(grid, store) as world:
        first = await world.step(await world.admitted())
        await world.end(first, Event.CANCEL)
        with pytest.raises(Forbidden):
            await world.report(first.job_id)
        await world.sweep()
        assert world.calls == [("stage", first.job_id), *[("release", first.job_id)] * 2]
        assert await store.due_stagings(10) == []


async def test_a_staging_that_no_job_needs_is_not_asked_for(
    grid: Grid, store: Store, database: Database
) -> None:
    """The stager was away, and the job has been withdrawn meanwhile, by the release before say."""
    async with opened(grid, store) as world:
        world.server.on("POST", "/stage", reply({}, 500), world.take)
        first = await world.step(await world.admitted())
        assert "not reached yet" in str(first.stager_status)
        job = await store.apply(first, Event.CANCEL)
        await store.update(job, delay=None, time_released=NOW)
        await world.sweep()
        assert world.calls == [("stage", first.job_id), ("release", first.job_id)]


async def test_after_a_kill_any_worker_goes_on(grid: Grid, store: Store) -> None:
    """The one that opened the staging dies before it asks, with its job."""
    async with opened(grid, store) as world:
        first, _ = await store.enter_staging(await world.admitted(), 3600)
        other = await world.admitted(USERS[1])
        await store.enter_staging(other, 3600)
        await store.apply(await world.now(first), Event.CANCEL)
        await world.sweep()
        assert phase(await world.now(other)) is Phase.WAITING_FOR_STAGER
        assert world.calls == [("stage", first.job_id)]


async def test_what_was_given_back_long_ago_is_forgotten(
    grid: Grid, store: Store, database: Database
) -> None:
    async with opened(grid, store) as world:
        first = await world.step(await world.admitted())
        kept = await world.step(await world.admitted(product_id="kept"))
        await world.end(first, Event.CANCEL)
        fence = await held(store)
        assert await store.forget_stagings(fence, 30 * DAY, 10) == 0
        await database.execute("UPDATE stagings SET released = released - INTERVAL 31 DAY")
        assert await store.forget_stagings(fence, 30 * DAY, 10) == 1
        assert await store.staging(first.job_id) is None
        assert (await world.known(kept.job_id)).state is StagingState.WAITING

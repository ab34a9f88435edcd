"""The store, the gateways and what else has effects, with failpoints before and after each effect.

What a call is for is read from its arguments and from the phase of the job that it is made for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar

from deliv.config import Limits, StagingLimits
from deliv.db.database import Connection, Database
from deliv.delivery.ending.failure import Failure, FailureHandler
from deliv.failpoints.points import Failpoints, Point
from deliv.gateways.broker import Message
from deliv.gateways.fts import Endpoint, Transfer, TransferOutcome
from deliv.gateways.gridftp import FileFacts, GridFtp
from deliv.gateways.stager import Stager
from deliv.model.error_classes import ErrorClass
from deliv.model.file import File, FileResult, ReportedFile
from deliv.model.job import Job, Submission
from deliv.model.phase import AT_STAGER, Phase, phase
from deliv.model.rest import Place, RestRules
from deliv.model.staging import SharedStaging, StagingState
from deliv.model.states import Event
from deliv.model.transfer import OpenTransfer, Progress
from deliv.store import Fence, OutboxRow, Routing, SliceLimits, Store, Turn
from deliv.store.columns import KEEP, Sentinel
from deliv.store.store import DEFAULT_RULES, FOR_EVER
from deliv.store.submissions import Outcome

T = TypeVar("T")

AFTER_EVENT = MappingProxyType(
    {
        Event.STAGED: Point.COPY_TAKEN,
        Event.TRANSFER: Point.TRANSFER_ASSIGNED,
        Event.DELIVER: Point.OUTCOME_STORED,
        Event.RESTAGE: Point.RETRY_STORED,
        Event.RETRANSFER: Point.RETRY_STORED,
        Event.REQUEUE: Point.REQUEUE_STORED,
        Event.FAIL: Point.FAILURE_STORED,
        Event.CANCEL: Point.CANCELLATION_STORED,
    }
)
# When an update, which is no event, has given a column a value.
AFTER_COLUMN = MappingProxyType(
    {
        "fts_jobid": Point.TRANSFER_ASSIGNED,
        "fts_posted": Point.POST_STORED,
        "cancel_requested": Point.CANCEL_STORED,
        "deadline_passed": Point.CANCEL_STORED,
    }
)

# Before and after the COMMIT of what this task does now.
_commit: ContextVar[tuple[Point, Point | None] | None] = ContextVar("commit", default=None)
# That of the job which this task works on, as it was stored last.
_phase: ContextVar[Phase | None] = ContextVar("phase", default=None)


@contextmanager
def _committing(before: Point, after: Point | None = None) -> Iterator[None]:
    token = _commit.set((before, after))
    try:
        yield
    finally:
        _commit.reset(token)


class FailpointDatabase(Database):
    def __init__(self, points: Failpoints, *settings: Any) -> None:
        super().__init__(*settings)
        self._points = points

    async def transaction(self, function: Callable[[Connection], T]) -> T:
        moments = _commit.get()
        if moments is None:
            return await super().transaction(function)
        before, after = moments

        def run(tx: Connection) -> T:
            result = function(tx)
            if tx.wrote:
                self._points.reach_in_thread(before)
            return result

        result = await super().transaction(run)
        if after is not None:
            await self._points.reach(after)
        return result


class FailpointStore(Store):
    def __init__(self, points: Failpoints, database: Database) -> None:
        super().__init__(database)
        self._points = points

    async def submit_many(
        self, wanted: Sequence[Submission], *, key_life: float = FOR_EVER
    ) -> list[Outcome]:
        await self._points.reach(Point.SUBMISSION_TAKEN)
        with _committing(Point.SUBMISSION_SENT):
            result = await super().submit_many(wanted, key_life=key_life)
        await self._points.reach(Point.SUBMISSION_STORED)
        return result

    async def admit(self, limits: StagingLimits, rules: RestRules = DEFAULT_RULES) -> Job | None:
        with _committing(Point.TRANSITION_SENT):
            job = await super().admit(limits, rules)
        if job is not None:
            await self._points.reach(Point.JOB_ADMITTED)
        return job

    async def join_fts_queue(self, job: Job, delay: float) -> Job:
        job = await super().join_fts_queue(job, delay)
        await self._points.reach(Point.QUEUE_JOINED)
        return job

    async def give_fts_place(self, limits: Limits) -> Job | None:
        job = await super().give_fts_place(limits)
        if job is not None:
            await self._points.reach(Point.PLACE_GIVEN)
        return job

    async def claim(self, job_id: str, timeout: float) -> Job | None:
        job = await super().claim(job_id, timeout)
        if job is not None:
            await self._points.reach(Point.STEP_TAKEN)
            _phase.set(phase(job))
            if phase(job) is Phase.CLEANING_UP:
                await self._points.reach(Point.CLOSING)
        return job

    async def apply(
        self,
        job: Job,
        event: Event,
        *,
        wake: tuple[Routing, ...] = (),
        delay: float | None = 0,
        delegation: str | None = None,
        **columns: Any,
    ) -> Job:
        with _committing(Point.TRANSITION_SENT, Point.TRANSITION_STORED):
            job = await super().apply(
                job, event, wake=wake, delay=delay, delegation=delegation, **columns
            )
        _phase.set(phase(job))
        if event in AFTER_EVENT:
            await self._points.reach(AFTER_EVENT[event])
        return job

    async def update(
        self,
        job: Job,
        *,
        delay: float | Sentinel | None = KEEP,
        fence: Fence | None = None,
        delegation: str | None = None,
        wake: tuple[Routing, ...] | None = None,
        **columns: Any,
    ) -> Job:
        job = await super().update(
            job, delay=delay, fence=fence, delegation=delegation, wake=wake, **columns
        )
        _phase.set(phase(job))
        for column, point in AFTER_COLUMN.items():
            if columns.get(column) is not None:
                await self._points.reach(point)
        return job

    async def enter_staging(self, job: Job, wait: float) -> tuple[Job, SharedStaging]:
        entered = await super().enter_staging(job, wait)
        await self._points.reach(Point.STAGING_ENTERED)
        return entered

    async def update_staging(
        self,
        staging: SharedStaging,
        *,
        delay: float | Sentinel | None = KEEP,
        tell: Mapping[str, object] = MappingProxyType({}),
        wake: bool = False,
        **columns: Any,
    ) -> SharedStaging:
        reported = wake and "status" in columns
        if reported:
            await self._points.reach(Point.REPORT_TAKEN)
        staging = await super().update_staging(
            staging, delay=delay, tell=tell, wake=wake, **columns
        )
        if "code" in columns:
            await self._points.reach(Point.CODE_STORED)
        if staging.state is StagingState.WAITING and "accepted" in columns:
            await self._points.reach(Point.STAGER_ACCEPTED)
        if reported:
            await self._points.reach(Point.REPORT_STORED)
        return staging

    async def leave_staging(
        self, job: Job, *, wake: tuple[Routing, ...] = ()
    ) -> tuple[Job, SharedStaging | None]:
        left, staging = await super().leave_staging(job, wake=wake)
        closed = left.time_released is None
        await self._points.reach(Point.STAGING_CLOSED if closed else Point.RELEASE_STORED)
        return left, staging

    async def staging_given_back(
        self,
        staging: SharedStaging | None,
        job: Job | None = None,
        *,
        wake: tuple[Routing, ...] = (),
    ) -> None:
        await super().staging_given_back(staging, job, wake=wake)
        await self._points.reach(Point.RELEASE_STORED)

    async def add_staging_files(
        self, staging: SharedStaging, report: bytes, first: int, files: Sequence[ReportedFile]
    ) -> None:
        await super().add_staging_files(staging, report, first, files)
        await self._points.reach(Point.FILES_STORED)

    async def fail_at(
        self,
        job: Job,
        event: Event,
        place: Place,
        reason: str,
        why: str,
        rules: RestRules,
        **columns: Any,
    ) -> Job | None:
        with _committing(Point.TRANSITION_SENT, Point.TRANSITION_STORED):
            rested = await super().fail_at(job, event, place, reason, why, rules, **columns)
        if rested is not None:
            _phase.set(phase(rested))
            await self._points.reach(Point.REST_STORED)
        return rested

    async def add_files(
        self,
        job: Job,
        report: bytes,
        first: int,
        files: Sequence[ReportedFile],
        earlier: bytes | None,
    ) -> None:
        await super().add_files(job, report, first, files, earlier)
        await self._points.reach(Point.FILES_TAKEN)

    async def assign(
        self,
        job: Job,
        turn: Turn,
        slice_limits: SliceLimits,
        key_of: Callable[[File], bytes],
        *,
        delay: float,
        delegation: str | None = None,
        **columns: Any,
    ) -> Job | None:
        with _committing(Point.TRANSITION_SENT, Point.TRANSITION_STORED):
            assigned = await super().assign(
                job, turn, slice_limits, key_of, delay=delay, delegation=delegation, **columns
            )
        if assigned is not None and assigned.fts_jobid == columns["fts_jobid"]:
            _phase.set(phase(assigned))
            await self._points.reach(Point.TRANSFER_ASSIGNED)
        return assigned

    async def record(
        self,
        job: Job,
        transfer: OpenTransfer,
        results: Sequence[FileResult],
        *,
        wake: tuple[Routing, ...] = (),
        delay: float | Sentinel | None = KEEP,
        **columns: Any,
    ) -> Job:
        with _committing(Point.TRANSITION_SENT, Point.TRANSITION_STORED):
            job = await super().record(job, transfer, results, wake=wake, delay=delay, **columns)
        _phase.set(phase(job))
        await self._points.reach(Point.FILES_RECORDED)
        return job

    async def outbox_take(self, limit: int, hold: float) -> list[OutboxRow]:
        rows = await super().outbox_take(limit, hold)
        if rows:
            await self._points.reach(Point.OUTBOX_TAKEN)
        return rows

    async def outbox_done(self, ids: Sequence[int]) -> None:
        await self._points.reach(Point.MESSAGE_PUBLISHED)
        await super().outbox_done(ids)
        await self._points.reach(Point.OUTBOX_CLEARED)

    async def lease(self, name: str, owner: str, ttl: float) -> int | None:
        number = await super().lease(name, owner, ttl)
        if number is not None:
            await self._points.reach(Point.LEASE_TAKEN)
        return number


class FailpointStager(Stager):
    def __init__(self, points: Failpoints, *settings: Any) -> None:
        super().__init__(*settings)
        self._points = points

    async def stage(self, staging: SharedStaging, authcode: str) -> None:
        await super().stage(staging, authcode)
        await self._points.reach(Point.STAGER_ASKED)

    async def release(self, job_id: str) -> None:
        await super().release(job_id)
        await self._points.reach(Point.COPY_RELEASED)


class FailpointEndpoint(Endpoint):
    def __init__(self, points: Failpoints, *settings: Any) -> None:
        super().__init__(*settings)
        self._points = points

    async def ensure_delegated(self) -> None:
        await super().ensure_delegated()
        await self._points.reach(Point.DELEGATED)

    async def submit(self, transfer: Transfer, job_id: str | None = None) -> str:
        given = await super().submit(transfer, job_id)
        await self._points.reach(Point.TRANSFER_POSTED)
        return given

    async def details(self, ids: Iterable[str]) -> dict[str, TransferOutcome]:
        found = await super().details(ids)
        if found:
            await self._points.reach(Point.OUTCOME_SEEN)
        return found

    async def progress(
        self, ids: Iterable[str], *, whole: bool = False
    ) -> tuple[dict[str, Progress], dict[str, TransferOutcome], int]:
        found, outcomes, cost = await super().progress(ids, whole=whole)
        if outcomes:
            await self._points.reach(Point.OUTCOME_SEEN)
        return found, outcomes, cost

    async def cancel(self, job_id: str) -> str | None:
        state = await super().cancel(job_id)
        stopping = _phase.get() is Phase.STOPPING
        await self._points.reach(Point.CANCEL_SENT if stopping else Point.TRANSFER_WITHDRAWN)
        return state


class FailpointGridFtp(GridFtp):
    def __init__(self, points: Failpoints, *settings: Any) -> None:
        super().__init__(*settings)
        self._points = points

    async def read(
        self, url: str, *, size: int, algorithm: str, credential: tuple[bytes, bytes]
    ) -> FileFacts:
        facts = await super().read(url, size=size, algorithm=algorithm, credential=credential)
        await self._points.reach(Point.DESTINATION_READ)
        return facts


class FailpointFailureHandler(FailureHandler):
    def __init__(self, points: Failpoints, *settings: Any) -> None:
        super().__init__(*settings)
        self._points = points

    async def attempt(self, job: Job, failure: Failure, **columns: Any) -> Job:
        if phase(job) in AT_STAGER and failure.error_class is ErrorClass.TIMEOUT:
            await self._points.reach(Point.STAGING_TIMED_OUT)
        await self._points.reach(Point.FAILURE_SEEN)
        return await super().attempt(job, failure, **columns)


def with_failpoints(
    points: Failpoints, handler: Callable[[Message], Awaitable[None]]
) -> Callable[[Message], Awaitable[None]]:
    async def handle(message: Message) -> None:
        await points.reach(Point.MESSAGE_RECEIVED)
        await handler(message)
        await points.reach(Point.MESSAGE_HANDLED)

    return handle

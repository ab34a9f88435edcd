"""The facade: each method is one transaction. Times are the database's, durations in seconds.

Besides what each method says, all raise errors.DatabaseUnavailable and errors.Saturated.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from deliv.config import Limits, StagingLimits
from deliv.db.database import Connection, Database, Duplicate
from deliv.errors import DelivError, LostRace
from deliv.model.file import File, FileGroup, FileListing, FileResult, FileState, ReportedFile
from deliv.model.job import Job, Listing, Submission
from deliv.model.rest import RestRules
from deliv.model.states import Event, Status
from deliv.model.transfer import OpenTransfer, Progress
from deliv.store import (
    admission,
    archive,
    clock,
    counts,
    delegations,
    fts_queue,
    jobs,
    leases,
    outbox,
    rests,
    retries,
    staging_area,
    submissions,
    transfers,
    turns,
)
from deliv.store import files as job_files
from deliv.store import listing as pages
from deliv.store.columns import KEEP, Change, Sentinel
from deliv.store.files import SliceLimits
from deliv.store.fts_queue import FtsPlaces
from deliv.store.leases import Fence
from deliv.store.outbox import Routing
from deliv.store.rest_store import RestStore
from deliv.store.rows import JobEvent, OutboxRow
from deliv.store.staging_area import StagingArea
from deliv.store.staging_store import StagingStore
from deliv.store.submissions import Outcome
from deliv.store.transactions import REPEATS
from deliv.store.turns import Turn

T = TypeVar("T")

DEFAULT_RULES = RestRules()
FOR_EVER = math.inf


@dataclass
class Looks:
    """Calls that look for who is next in a queue: all, and the last one that there is none for."""

    asked: int = 0
    refused: int = 0


class Store(StagingStore, RestStore):
    """All that the service asks and changes, but for delegations."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        # The database decides on admissions and turns one after the other. Those that wait for it
        # hold no connection.
        self._deciding = asyncio.Lock()
        self._admissions, self._places = Looks(), Looks()

    async def submit(
        self, submission: Submission, *, key_life: float = FOR_EVER
    ) -> tuple[Job, bool]:
        """(job, created), as of `submit_many`; raises why there is no job."""
        (outcome,) = await self.submit_many([submission], key_life=key_life)
        if isinstance(outcome, DelivError):
            raise outcome
        return outcome

    async def submit_many(
        self, wanted: Sequence[Submission], *, key_life: float = FOR_EVER
    ) -> list[Outcome]:
        """Of each submission of one submitter (job, created), or why there is no job; in order.

        Created is False when the idempotency key has this job already. A key is good for `key_life`
        seconds and as long as its job is unfinished. KeyReused when it came with another request,
        InvalidRequest when the deadline is over, QuotaExceeded. No two repeat the same job; it is
        False, too, where another job repeats that one already, which then is the outcome.
        """
        outcomes = await self._retry_unknown_commit(
            lambda tx: submissions.submit(tx, wanted, key_life),
            lambda tx: submissions.submit(tx, wanted, key_life, again=True),
        )
        self.on_outbox()
        return outcomes

    async def job(self, job_id: str) -> Job | None:
        """The job, archived or not."""

        def run(tx: Connection) -> Job | None:
            condition = "job_id = %s"
            return jobs.find(tx, condition, job_id) or archive.find(tx, condition, job_id)

        if not job_id.isascii():  # MariaDB would not compare it
            return None
        return await self._run(run)

    async def several(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Those of these jobs that there are, archived or not."""

        def run(tx: Connection) -> dict[str, Job]:
            found = jobs.by_id(tx, job_ids)
            return found | archive.by_id(tx, [one for one in job_ids if one not in found])

        return await self._run(run)

    async def retries_of(self, job_ids: Collection[str]) -> dict[str, Job]:
        """The job that repeats each of these, archived or not, by the id of the repeated one."""
        return await self._run(lambda tx: retries.of(tx, job_ids))

    async def copied_before(self, job: Job) -> list[Job]:
        """Of the jobs that it repeats those that FTS was to copy, the last first; ten at most."""
        return await self._run(lambda tx: retries.copied_before(tx, job))

    async def admit(self, limits: StagingLimits, rules: RestRules = DEFAULT_RULES) -> Job | None:
        """The job that the archive is asked for next, now STAGING and due; None when none may be.

        Who waits while another call finds none gets the same answer.
        """
        job = await self._next(self._admissions, lambda tx: admission.admit(tx, limits, rules))
        if job is not None:
            self.on_outbox()
        return job

    async def join_fts_queue(self, job: Job, delay: float) -> Job:
        """The job, staged, which waits for a place at FTS; looked at again after `delay`. LostRace.

        Who waits already keeps its place in the line.
        """
        return await self._run(lambda tx: fts_queue.join(tx, job, delay))

    async def give_fts_place(self, limits: Limits) -> Job | None:
        """The staged job that is handed to FTS next, and due; None when none may be. As `admit`."""
        return await self._next(self._places, lambda tx: fts_queue.give_place(tx, limits))

    async def fts_places(self) -> FtsPlaces:
        """How many jobs have a place at FTS, and how many wait for one."""
        return await self._run(fts_queue.places)

    async def held_by(self, limits: Limits, waiting: Collection[Job]) -> dict[str, str]:
        """Which limit keeps those of these jobs from going on that one keeps, by job id."""
        return await self._run(lambda tx: admission.held_by(tx, limits, waiting))

    async def staging_area(self) -> StagingArea:
        """What the archive was asked for, and was not given back."""
        return await self._run(staging_area.find)

    async def claim(self, job_id: str, timeout: float) -> Job | None:
        """The job, kept from other workers for `timeout` seconds; None when it is not due."""
        return await self._run(lambda tx: jobs.claim(tx, job_id, timeout))

    async def due(self, limit: int) -> list[str]:
        """Ids of jobs that need attention, the longest overdue first; not of waiting ones."""
        return await self._run(lambda tx: jobs.due(tx, limit))

    async def expired(self, limit: int) -> list[str]:
        """Ids of unfinished jobs whose deadline is over, and whose end has not begun."""
        return await self._run(lambda tx: jobs.expired(tx, limit))

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
        """Take the job through `event`, due again after `delay` (None: at rest).

        `wake` are the outbox routings to add. IllegalTransition, LostRace, DestinationBusy. With
        the id of a `delegation` only while it is there, else NoCredential. A delivery lets others
        go on whose destination rests.
        """
        what = jobs.event_change(job, event, delay, columns)

        def run(tx: Connection) -> Job:
            if delegation is not None:
                delegations.guard(tx, delegation)
            changed = jobs.transition(tx, job, what, wake)
            if event is Event.DELIVER:
                rests.arrived(tx, job)  # as it was until now
            return changed

        changed = await self._change(job, what, run)
        self.on_outbox()
        return changed

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
        """Set columns; due_at stays unless `delay` is given. LostRace, DestinationBusy.

        With a `fence` only while its lease is held, else LostRace; `delegation` as with `apply`.
        """
        what = Change(delay=delay, columns=columns)

        def run(tx: Connection) -> Job:
            if delegation is not None:
                delegations.guard(tx, delegation)
            if fence is not None:
                leases.guard(tx, fence)
            changed = jobs.change(tx, job, what)
            if wake:
                outbox.add(tx, [(changed, wake)])
            return changed

        changed = await self._change(job, what, run)
        if wake:
            self.on_outbox()
        return changed

    async def add_files(
        self,
        job: Job,
        report: bytes,
        first: int,
        files: Sequence[ReportedFile],
        earlier: bytes | None,
    ) -> None:
        """Some files of a report that does not count yet, numbered from `first`.

        What became of files of the same name in the `earlier` report goes on.
        """

        def run(tx: Connection) -> None:
            job_files.add(tx, job.job_id, report, first, files, earlier)

        await self._retry_unknown_commit(run, run)

    async def file_totals(self, job: Job, report: bytes) -> dict[str, Any]:
        """What the job's columns are to say when this report counts."""
        return await self._run(lambda tx: job_files.totals(tx, job.job_id, report))

    async def discard_files(self, job_id: str, report: bytes, limit: int) -> int:
        """Remove files of a report that does not count; how many."""
        return await self._run(lambda tx: job_files.discard(tx, job_id, report, limit))

    async def free_destinations(self, job_id: str) -> None:
        """Keep no others from destinations that the job does not write."""
        await self._run(lambda tx: job_files.free_destinations(tx, job_id))

    async def has_open_files(self, job: Job) -> bool:
        """Whether there are files that the job's present attempt has not tried."""
        return await self._run(lambda tx: job_files.is_open(tx, job))

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
        """Give a staged job a transfer, described by `columns`, and the files that it is for.

        `key_of` makes the key of a file's destination. None when no file waits. Without this
        transfer when it is not the job's turn, or when other jobs write the destinations of all
        files that were looked at. LostRace, NoCredential, DestinationBusy.
        """
        first = job.status is Status.STAGING
        what = (
            jobs.event_change(job, Event.TRANSFER, delay, columns)
            if first
            else Change(columns=columns)
        )

        def run(tx: Connection) -> Job | None:
            def change() -> Job:  # the archive may be asked for another
                if first:
                    return jobs.transition(tx, job, what, (Routing.ADMIT,))
                return jobs.change(tx, job, what)

            if delegation is not None:
                delegations.guard(tx, delegation)
            files: list[File] = []
            if job.report is not None:
                files = job_files.next_slice(tx, job, slice_limits)
                if not files:
                    return None
            if not turns.is_next(tx, job, len(files) or 1, turn):
                return turns.wait(tx, job, turn)
            if job.report is None:
                return change()
            return job_files.assign(tx, job, files, slice_limits.number, key_of, change)

        def again(tx: Connection) -> Job | None:
            return jobs.applied(tx, job, what) or run(tx)

        for attempt in range(REPEATS, 0, -1):
            try:
                async with self._deciding:
                    changed = await self._retry_unknown_commit(run, again)
                break
            except Duplicate as error:  # another job has taken a destination just now
                if attempt == 1:
                    raise LostRace(f"others take destinations of {job.job_id}") from error
        self.on_outbox()
        return changed

    async def give_turns(self, turn: Turn) -> int:
        """Let the jobs whose turn to hand files to FTS has come be attended to now; how many."""
        given = await self._run(lambda tx: turns.give(tx, turn))
        self.on_outbox()
        return given

    async def assigned_files(self, job: Job, attempt: int, slice_number: int) -> list[File]:
        """The files of one of the job's transfers."""
        return await self._run(lambda tx: job_files.assigned(tx, job, attempt, slice_number))

    async def open_transfers(self, several: Sequence[Job]) -> dict[str, tuple[OpenTransfer, ...]]:
        """What FTS has, or may have, of each of these jobs, by its id: the oldest first."""
        return await self._run(lambda tx: transfers.of(tx, several))

    async def with_open_transfers(self, endpoint: str) -> list[Job]:
        """The jobs with many files of which this FTS has some; those in flight are bounded."""
        return await self._run(lambda tx: transfers.watched(tx, endpoint))

    async def see_progress(self, seen: Mapping[str, Mapping[tuple[int, int], Progress]]) -> None:
        """How far open transfers are: by job, and by attempt and slice."""

        def run(tx: Connection) -> None:
            for job_id, progress in sorted(seen.items()):
                transfers.see(tx, job_id, progress)

        await self._run(run)

    async def may_hand_over_more(self, job: Job) -> bool:
        """Whether a job that FTS copies has files for another transfer.

        Not while most files of the one that ended last are not there: the next may end alike.
        """
        return await self._run(
            lambda tx: job_files.is_open(tx, job) and transfers.last_went_well(tx, job)
        )

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
        """What became of the files of a transfer, which is over, and a change of the job; LostRace.

        `files_done` and `bytes_done` have to be among the columns where a file has arrived.
        """
        what = Change(delay=delay, columns=columns)

        def run(tx: Connection) -> Job:
            changed = job_files.record(tx, job, transfer, results, what, wake)
            if any(one.state is FileState.FINISHED for one in results):
                rests.arrived(tx, job)
            return changed

        changed = await self._change(job, what, run)
        self.on_outbox()
        return changed

    async def file_groups(self, job: Job) -> list[FileGroup]:
        """The files of a job that has not been archived, counted by what they have in common."""
        return await self._run(lambda tx: job_files.groups(tx, job))

    async def file(self, job: Job, number: int) -> File:
        """One that there is."""
        return await self._run(lambda tx: job_files.one(tx, job, number))

    async def files_named(self, job: Job, names: Sequence[str]) -> list[File]:
        """Those of these names, of a job that has not been archived."""
        return await self._run(lambda tx: job_files.named(tx, job, names))

    async def files(self, job: Job, listing: FileListing) -> list[File]:
        """A page of a job's files, archived or not."""
        return await self._run(lambda tx: job_files.page(tx, job, listing))

    async def events(self, job_id: str) -> list[JobEvent]:
        """A job's history, oldest first."""
        return await self._run(lambda tx: jobs.events(tx, job_id))

    async def page(self, listing: Listing) -> list[Job]:
        """The jobs to list, archived or not."""
        return await self._run(lambda tx: pages.page(tx, listing))

    async def by_fts(self, endpoint: str, fts_ids: Sequence[str]) -> list[Job]:
        """The TRANSFERRING jobs among these."""
        return await self._run(lambda tx: jobs.by_fts(tx, endpoint, fts_ids))

    async def single_file_owners(self, endpoint: str) -> list[str | None]:
        """Under whose identity that FTS copies for jobs of a single file; None: deliv's own."""
        return await self._run(lambda tx: jobs.single_file_owners(tx, endpoint))

    async def transferring(
        self, endpoint: str, older_than: float, *, after: str = "", limit: int = 500
    ) -> list[Job]:
        """A page, by job id, of what FTS took at least `older_than` seconds ago."""
        return await self._run(lambda tx: jobs.transferring(tx, endpoint, older_than, after, limit))

    async def note_time(self, hold: float) -> float:
        """By how many seconds the database's clock has stepped back since the last note, else 0."""
        return await self._run(lambda tx: clock.note(tx, hold))

    async def time_is_noted(self) -> bool:
        """Whether the time was noted lately. Where not, nothing is to end by it yet."""
        return await self._run(clock.is_noted)

    async def age(self, moment: datetime) -> float:
        """Seconds since then, by the database's clock, which all times of jobs are from."""
        return await self._run(lambda tx: clock.age(tx, moment))

    async def counts(self) -> dict[Status, int]:
        """How many jobs there are of each status, without archived ones."""
        return await self._run(counts.by_status)

    async def totals(self, submitter: str, label: str) -> dict[Status, int]:
        """How many jobs of each status a submitter's label has, with archived ones."""
        return await self._run(lambda tx: counts.of_label(tx, submitter, label))

    async def recount(self, submitter: str) -> None:
        """Set a submitter's counts to what the jobs say."""
        await self._run(lambda tx: counts.recount(tx, submitter))

    async def outbox_take(self, limit: int, hold: float) -> list[OutboxRow]:
        """The oldest rows, kept from other relays for `hold` seconds."""
        return await self._run(lambda tx: outbox.take(tx, limit, hold))

    async def outbox_done(self, ids: Sequence[int]) -> None:
        await self._run(lambda tx: outbox.done(tx, ids))

    async def outbox_trim(self, fence: Fence, age: float, limit: int) -> int:
        """Remove the oldest rows once they are `age` seconds old; how many. LostRace."""
        return await self._run(lambda tx: outbox.trim(tx, fence, age, limit))

    async def archive(self, fence: Fence, age: float, limit: int) -> int:
        """Move jobs that ended `age` seconds ago to the archive; how many. LostRace."""
        return await self._run(lambda tx: archive.archive(tx, fence, age, limit))

    async def forget(self, fence: Fence, age: float, limit: int) -> int:
        """Remove archived jobs that were submitted `age` seconds ago; how many. LostRace."""
        return await self._run(lambda tx: archive.forget(tx, fence, age, limit))

    async def check_writable(self) -> None:
        """Returns when a change was committed. While a disk is full, reading still works."""
        await self._run(leases.try_writing)

    async def lease(self, name: str, owner: str, ttl: float) -> int | None:
        """Acquire or renew: the fencing number while it is ours, else None."""
        return await self._run(lambda tx: leases.acquire(tx, name, owner, ttl))

    async def release(self, name: str, owner: str) -> None:
        await self._run(lambda tx: leases.release(tx, name, owner))

    async def release_all(self, owner: str) -> None:
        await self._run(lambda tx: leases.release_all(tx, owner))

    async def create_lease(self, name: str) -> None:
        """One that is not held, unless it is there."""
        await self._run(lambda tx: leases.create(tx, name))

    async def remove_lease(self, name: str) -> None:
        """Unless it is held."""
        await self._run(lambda tx: leases.remove(tx, name))

    async def _next(self, looks: Looks, look: Callable[[Connection], Job | None]) -> Job | None:
        looks.asked = asked = looks.asked + 1
        async with self._deciding:
            if asked <= looks.refused:
                return None
            waiting = looks.asked
            job = await self._run(look)
            if job is None:
                looks.refused = waiting
        return job

    async def _change(self, job: Job, what: Change, first: Callable[[Connection], Job]) -> Job:
        def again(tx: Connection) -> Job:
            return jobs.applied(tx, job, what) or first(tx)

        return await self._retry_unknown_commit(first, again)

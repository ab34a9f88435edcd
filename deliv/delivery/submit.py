"""Taking a request for a delivery, and reading what became of it."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

import structlog

from deliv.config import Limits
from deliv.errors import DelivError, InvalidRequest, NotFound
from deliv.model.file import File, FileListing
from deliv.model.job import Job, Listing, Submission
from deliv.model.phase import Phase, has_place, phase
from deliv.model.rest import WAITING
from deliv.model.states import Status
from deliv.store import JobEvent, Store

log = structlog.get_logger()

MAX_KEY = 255
KEY = re.compile(rf"[ -~]{{1,{MAX_KEY}}}")


def check_key(name: str, value: str) -> str:
    """The idempotency key itself; InvalidRequest."""
    if not KEY.fullmatch(value):
        raise InvalidRequest(f"{name} must be 1 to {MAX_KEY} printable ASCII characters")
    return value


class Submissions:
    """An idempotency key is good for `key_life` seconds, and while its job is unfinished."""

    def __init__(self, store: Store, key_life: float, limits: Limits) -> None:
        self._store = store
        self._key_life = key_life
        self._limits = limits

    async def submit(self, wanted: Submission) -> Job:
        """The job for this request, durable when this returns. The same key gives the same job.

        QuotaExceeded when the submitter has `quota` unfinished jobs already, InvalidRequest when
        the deadline is over, KeyReused.
        """
        job, created = await self._store.submit(wanted, key_life=self._key_life)
        log.info("submitted" if created else "submitted before", job_id=job.job_id)
        return job

    async def submit_many(self, wanted: Sequence[Submission]) -> list[Job | DelivError]:
        """For each of one submitter's requests its job, or why there is none; as `submit`.

        They are taken in one transaction.
        """
        outcomes = await self._store.submit_many(wanted, key_life=self._key_life)
        taken = [outcome for outcome in outcomes if not isinstance(outcome, DelivError)]
        created = sum(created for _, created in taken)
        refused = len(outcomes) - len(taken)
        log.info("submitted many", new=created, before=len(taken) - created, refused=refused)
        return [outcome if isinstance(outcome, DelivError) else outcome[0] for outcome in outcomes]

    async def held_by(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Which limit keeps those jobs from the archive, or from FTS when staged, that one keeps.

        By job id.
        """
        waiting = [
            job
            for job in jobs
            if phase(job) is Phase.QUEUED or (phase(job) is Phase.STAGED and not has_place(job))
        ]
        return await self._store.held_by(self._limits, waiting) if waiting else {}

    async def as_resting(self, jobs: Sequence[Job]) -> list[Job]:
        """Jobs as they are shown: of those that wait for their turn where others rest, what for.

        What they noted when they came to rest may be another place: operators' rests come later.
        """
        queued = [job for job in jobs if phase(job) is Phase.QUEUED and job.let_go is None]
        rests = await self._store.rests_of(queued) if queued else {}
        return [
            replace(
                job,
                waiting_for=rest.cause.value,
                waiting_since=rest.waited_since(job),
                detailed_status=f"{WAITING}{rest.sentence()}",
            )
            if (rest := rests.get(job.job_id))
            else job
            for job in jobs
        ]

    async def job(self, job_id: str) -> Job:
        """NotFound when there is none of that id."""
        try:
            canonical = str(uuid.UUID(job_id))
        except ValueError as error:
            raise NotFound("there is no such job: a job id is a UUID") from error
        job = await self._store.job(canonical)
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        return job

    async def page(self, listing: Listing) -> list[Job]:
        """The jobs to list, those submitted last first."""
        return await self._store.page(listing)

    async def totals(self, submitter: str, label: str) -> dict[Status, int]:
        """How many jobs of each status a submitter's label has."""
        return await self._store.totals(submitter, label)

    async def stoppable(self, submitter: str, label: str, limit: int) -> list[str]:
        """Ids of a label's jobs that have not ended, those first that have not begun.

        Without those that FTS is being asked to stop already.
        """
        found: dict[str, None] = {}  # a job that goes on meanwhile is seen twice
        for status in (Status.SUBMITTED, Status.STAGING, Status.TRANSFERRING):
            wanted = Listing(submitter=submitter, label=label, status=status, limit=limit)
            full = True
            while full and len(found) < limit:
                page = await self._store.page(wanted)
                found |= {job.job_id: None for job in page if job.cancel_requested is None}
                full = len(page) == limit
                wanted = replace(wanted, before=page[-1].job_id) if page else wanted
        return [*found][:limit]

    async def files(self, job: Job, listing: FileListing) -> list[File]:
        """Of a job with several; the only one of another is described by the job itself."""
        return await self._store.files(job, listing) if job.report is not None else []

    async def events(self, job: Job) -> list[JobEvent]:
        """The job's history, oldest first."""
        return await self._store.events(job.job_id)


def new_ids(count: int) -> list[str]:
    """Job ids; each sorts after the one before."""
    return sorted(uuid7() for _ in range(count))


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562): the time in milliseconds, then 74 random bits."""
    value = int.from_bytes(os.urandom(10)) | (time.time_ns() // 1_000_000) << 80
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))

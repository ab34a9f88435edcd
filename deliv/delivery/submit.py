"""Taking a request for a delivery, and reading what became of it."""

from __future__ import annotations

import os
import re
import time
import uuid
from datetime import datetime

import structlog

from deliv.config import Limits
from deliv.delivery.destination import Directory, check_product_id
from deliv.errors import InvalidRequest, NotFound
from deliv.model.job import Job, Listing, Submission, TransferIdentity
from deliv.model.phase import Phase, phase
from deliv.store import JobEvent, Store

log = structlog.get_logger()

MAX_KEY = 255
KEY = re.compile(rf"[ -~]{{1,{MAX_KEY}}}")


class Submissions:
    """An idempotency key is good for `key_life` seconds, and while its job is unfinished."""

    def __init__(self, store: Store, key_life: float, limits: Limits) -> None:
        self._store = store
        self._key_life = key_life
        self._limits = limits

    async def submit(
        self,
        submitter: str,
        product_id: str,
        directory: Directory,
        *,
        key: str | None = None,
        quota: int | None = None,
        deadline: datetime | None = None,
        copied_as: TransferIdentity = TransferIdentity.SERVICE,
        fqans: tuple[str, ...] = (),
        limited: bool = False,
    ) -> Job:
        """The job for this request, durable when this returns. The same key gives the same job.

        QuotaExceeded when the submitter has `quota` unfinished jobs already, InvalidRequest when
        the deadline is over.
        """
        product_id = check_product_id(product_id)
        if key is not None and not KEY.fullmatch(key):
            raise InvalidRequest(
                f"Idempotency-Key must be 1 to {MAX_KEY} printable ASCII characters"
            )
        submission = Submission(
            job_id=uuid7(),
            product_id=product_id,
            destination_path=directory.url,
            destination_host=directory.host,
            submitter=submitter,
            idempotency_key=key,
            quota=quota,
            deadline=deadline,
            copied_as=copied_as,
            fqans=fqans,
            limited=limited,
        )
        job, created = await self._store.submit(submission, key_life=self._key_life)
        log.info("submitted" if created else "submitted before", job_id=job.job_id)
        return job

    async def held_by(self, job: Job) -> str | None:
        """Which limit keeps it from being begun with; None when none does, or it has begun."""
        if phase(job) is not Phase.QUEUED:
            return None
        return await self._store.held_by(self._limits, job)

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

    async def events(self, job: Job) -> list[JobEvent]:
        """The job's history, oldest first."""
        return await self._store.events(job.job_id)


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562): the time in milliseconds, then 74 random bits."""
    value = int.from_bytes(os.urandom(10)) | (time.time_ns() // 1_000_000) << 80
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))

"""Submitting once more what ended in ERROR: which jobs that is, and why others are left alone.

A job is repeated by another one that names it. What counts is the last of these: only where that
one failed, too, it is repeated.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from deliv.errors import NotFound
from deliv.model.job import Job, Listing
from deliv.model.states import Status
from deliv.store import Store

STANDING = {
    Status.SUCCESS: "is delivered",
    Status.CANCELLED: "was cancelled",
    Status.ERROR: "has failed meanwhile: repeat the call",
}


class Retries:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def latest(self, job_ids: Sequence[str]) -> list[Job | NotFound]:
        """Of each the job itself, or the last one of those that repeat it one after another."""
        names = {given: canonical for given in job_ids if (canonical := _uuid(given))}
        found = await self._store.several([*{*names.values()}])
        failed = {job.job_id for job in found.values() if job.status is Status.ERROR}
        while failed:
            retries = await self._store.retries_of(failed)
            found = {name: retries.get(job.job_id, job) for name, job in found.items()}
            failed = {job.job_id for job in retries.values() if job.status is Status.ERROR}
        none = NotFound("there is no such job")
        return [found.get(names.get(given, ""), none) for given in job_ids]

    async def of_label(
        self, submitter: str, label: str, before: str | None, limit: int
    ) -> tuple[list[tuple[str, Job]], str | None]:
        """A page of a label's jobs that failed, those submitted last first, and its cursor.

        Each with the job that repeats it, or else itself; without those whose repetition failed,
        which is one of these jobs, too. The cursor is None on the last page.
        """
        listing = Listing(
            submitter=submitter, label=label, status=Status.ERROR, before=before, limit=limit + 1
        )
        found = await self._store.page(listing)
        page = found[:limit]
        retries = await self._store.retries_of([job.job_id for job in page])
        named = [
            (job.job_id, latest)
            for job in page
            if (latest := retries.get(job.job_id, job)) is job or latest.status is not Status.ERROR
        ]
        return named, page[-1].job_id if len(found) > limit else None

    async def repeating(self, jobs: Sequence[Job]) -> dict[str, str]:
        """The id of the job that repeats each of these, by the id of the repeated one."""
        failed = [job.job_id for job in jobs if job.status is Status.ERROR]
        retries = await self._store.retries_of(failed) if failed else {}
        return {job_id: retry.job_id for job_id, retry in retries.items()}


def why_not(named: str, latest: Job) -> str:
    """Why a job is not repeated, of which `latest` is the last repetition, or itself."""
    who = "the job" if latest.job_id == named else f"job {latest.job_id}, which repeats it,"
    return f"{who} {STANDING.get(latest.status, 'has not ended')}"


def _uuid(job_id: str) -> str | None:
    try:
        return str(uuid.UUID(job_id))
    except ValueError:
        return None

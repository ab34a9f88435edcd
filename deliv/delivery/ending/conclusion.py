"""What follows when an attempt at a job's files has nothing left to try. Decided here alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog

from deliv.delivery.destination import destination_file
from deliv.delivery.ending.failure import Failure, FailureHandler
from deliv.model.error_classes import ErrorClass
from deliv.model.file import FileGroup, FileState
from deliv.model.job import Job
from deliv.model.states import Event, Status
from deliv.store import Routing, Store

log = structlog.get_logger()


class Conclusion:
    def __init__(self, store: Store, failures: FailureHandler) -> None:
        self._store = store
        self._failures = failures

    async def conclude(self, job: Job) -> Job:
        """Another attempt at those files that it may bring, else the end of the job."""
        groups = await self._store.file_groups(job)
        missing = [group for group in groups if group.state is not FileState.FINISHED]
        if not missing:
            return await self._deliver(job)
        tried = [group for group in missing if group.tried or group.state is FileState.FAILED]
        again = [group for group in tried if group.state is FileState.WAITING]
        untried = sum(group.count for group in missing if group not in tried)
        failure = await self._failure(job, missing, again or tried, untried)
        if again:
            return await self._failures.attempt(job, failure)
        return await self._failures.end(job, failure)

    async def _failure(
        self, job: Job, missing: Sequence[FileGroup], decisive: Sequence[FileGroup], untried: int
    ) -> Failure:
        """That of most of the decisive files, with the first one's reason."""
        numbers: Counter[str] = Counter()
        for group in decisive:
            numbers[group.error_class or ErrorClass.OTHER] += group.count
        error_class = ErrorClass(numbers.most_common(1)[0][0])
        alike = [one for one in decisive if (one.error_class or ErrorClass.OTHER) == error_class]
        first = await self._store.file(job, min(group.first for group in alike))
        count = sum(group.count for group in missing)
        rest = f" ({untried:,} of them were not tried)" if untried else ""
        return Failure(
            error_class=error_class,
            reason=f"{count:,} did not{rest}: {first.name}: {first.reason or 'no reason is known'}",
            may_have_partial_file=any(group.partial for group in missing),
            copy_begun=all(group.copy_begun for group in alike),
            corrupt_source=any(group.corrupt_source for group in decisive),
            cause=first.reason,
        )

    async def _deliver(self, job: Job) -> Job:
        if job.status is Status.STAGING:  # staged again without what had been missing
            job = await self._store.apply(job, Event.TRANSFER)
        log.info("delivered", job_id=job.job_id, files=job.files_done, size=job.bytes_done)
        files = "file" if job.files_total == 1 else "files"
        return await self._store.apply(
            job,
            Event.DELIVER,
            wake=(Routing.ADMIT, Routing.ATTEND),
            product_size=job.bytes_done,
            detailed_status=f"{job.files_total:,} {files} delivered to {destination_file(job)}",
        )

"""What FTS says of the files of a transfer becomes their next state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from deliv.config import Config
from deliv.delivery.comparison import DestinationComparison, Leftover
from deliv.delivery.destination import destination_file, file_url
from deliv.delivery.ending import leftovers
from deliv.delivery.ending.conclusion import Conclusion
from deliv.delivery.ending.failure import FRESH_TRANSFER, Failure, FailureHandler
from deliv.delivery.slices import FIRST_SLICE
from deliv.errors import LostRace
from deliv.gateways.fts import TransferOutcome, Verdict
from deliv.model.error_classes import ErrorClass
from deliv.model.file import File, FileResult, FileState
from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.transfer import OpenTransfer
from deliv.store import NOW, Routing, Store
from deliv.store.columns import KEEP, Sentinel

# What is so of one file says nothing of the others.
OF_ONE_FILE = frozenset(
    {ErrorClass.EXISTS, ErrorClass.CHECKSUM, ErrorClass.SOURCE_MISSING, ErrorClass.CANCELLED}
)

Outcomes = Mapping[int, TransferOutcome]  # by the number of the file


class FileResults:
    def __init__(
        self,
        store: Store,
        failures: FailureHandler,
        conclusion: Conclusion,
        destination: DestinationComparison,
        config: Config,
    ) -> None:
        self._store = store
        self._failures = failures
        self._conclusion = conclusion
        self._destination = destination
        self._config = config

    async def to_compare(
        self, job: Job, files: Sequence[File], outcomes: Outcomes
    ) -> list[tuple[File, Leftover | None]]:
        """Those that FTS found something of, where an earlier attempt may have left it."""
        if phase(job) is Phase.STOPPING:
            return []
        found = [file for file in files if outcomes[file.number].error_class is ErrorClass.EXISTS]
        others = [file for file in found if not file.partial]
        left = await leftovers.of_files(self._store, job, others)
        return [(file, left.get(file.name)) for file in found if file.partial or file.name in left]

    async def compared(
        self, job: Job, files: Sequence[tuple[File, Leftover | None]], outcomes: Outcomes
    ) -> dict[int, FileResult]:
        """What the files at the destinations of these turn out to be. Unavailable."""
        results: dict[int, FileResult] = {}
        for file, leftover in files:
            url = file_url(destination_file(job), file.name)
            comparison = await self._destination.compare(
                job, url, file.size, file.checksum, leftover
            )
            if comparison.equal:
                results[file.number] = FileResult(number=file.number, state=FileState.FINISHED)
            else:
                reason = f"{outcomes[file.number].reason.rstrip('. ')}; {comparison.result}"
                results[file.number] = FileResult(
                    number=file.number,
                    state=FileState.WAITING if comparison.own_part else FileState.FAILED,
                    error_class=ErrorClass.EXISTS,
                    reason=reason,
                    partial=True,
                    copy_begun=comparison.own_part,
                )
        return results

    async def failed(
        self, job: Job, transfer: OpenTransfer, failure: Failure, *, rest_alike: bool = True
    ) -> Job:
        """Record a transfer of which nothing comes: each of its files failed for one reason.

        `rest_alike`: so would the others.
        """
        outcome = TransferOutcome(
            verdict=Verdict.FAILED,
            error_class=failure.error_class,
            reason=failure.reason,
            partial=failure.may_have_partial_file,
        )
        files = await self._store.assigned_files(job, transfer.attempt, transfer.slice)
        outcomes = {file.number: outcome for file in files}
        return await self.record(job, transfer, outcome, files, outcomes, {}, rest_alike=rest_alike)

    async def record(
        self,
        job: Job,
        transfer: OpenTransfer,
        outcome: TransferOutcome,
        files: Sequence[File],
        outcomes: Outcomes,
        compared: Mapping[int, FileResult],
        *,
        rest_alike: bool = True,
    ) -> Job:
        """The results of a transfer that has ended, and what follows for the job. LostRace."""
        several = (await self._store.open_transfers([job]))[job.job_id]
        others = [one for one in several if one.fts_jobid != transfer.fts_jobid]
        if len(others) == len(several):
            raise LostRace(f"the transfer {transfer.fts_jobid} is recorded already")
        results = [
            compared.get(file.number) or await self._result(job, file, outcomes[file.number])
            for file in files
        ]
        sizes = {file.number: file.size or outcomes[file.number].filesize or 0 for file in files}
        done = [one.number for one in results if one.state is FileState.FINISHED]
        left = any(one.partial for one in results)
        columns: dict[str, Any] = {
            "files_done": (job.files_done or 0) + len(done),
            "bytes_done": (job.bytes_done or 0) + sum(sizes[number] for number in done),
            "partial": job.partial or left,
            "fts_details": outcome.details or job.fts_details,
        }
        if phase(job) is Phase.STOPPING:
            job = await self._store.record(job, transfer, results, **columns)
            if others:
                return job
            copy = Failure(
                error_class=ErrorClass.CANCELLED,
                reason="",
                may_have_partial_file=left,
                details=outcome.details,
            )
            return await self._failures.stopped(job, copy)
        arrived = f"{columns['files_done']:,} of {job.files_total:,} files arrived"
        attend = (Routing.ATTEND,)
        columns["detailed_status"] = arrived
        if others:
            delay: float | Sentinel = 0
            if phase(job) is Phase.HANDING_OVER:
                if transfer.fts_jobid == job.fts_jobid:  # nothing is handed over any more
                    columns["fts_posted"] = NOW
                else:
                    delay = KEEP
            return await self._store.record(
                job, transfer, results, wake=attend, delay=delay, **columns
            )
        columns |= {**FRESH_TRANSFER, "slice": job.slice + 1}
        hopeless = rest_alike and self._hopeless(results)
        if not hopeless and await self._store.has_open_files(job):
            return await self._store.record(job, transfer, results, wake=attend, delay=0, **columns)
        claimed = float(self._config.sweeps.hold)
        job = await self._store.record(job, transfer, results, delay=claimed, **columns)
        return await self._conclusion.conclude(job)

    async def _result(self, job: Job, file: File, found: TransferOutcome) -> FileResult:
        announced, copied = file.size, found.filesize
        if found.verdict is Verdict.FINISHED:
            if announced is None or copied in {None, announced}:
                size = copied if announced is None else None
                return FileResult(number=file.number, state=FileState.FINISHED, size=size)
            return FileResult(
                number=file.number,
                state=await self._state(job, ErrorClass.CHECKSUM, ""),
                error_class=ErrorClass.CHECKSUM,
                reason=f"the copy has {copied} bytes, the stager announced {announced}",
                partial=True,
                copy_begun=True,
                corrupt_source=True,
            )
        error_class = found.error_class or ErrorClass.OTHER
        stopped = phase(job) is Phase.STOPPING
        left = found.partial or (stopped and found.begun)
        return FileResult(
            number=file.number,
            state=(
                FileState.FAILED if stopped else await self._state(job, error_class, found.reason)
            ),
            error_class=error_class,
            reason=found.reason,
            partial=file.partial or left,
            # What FTS's record of an earlier attempt proved, as long as none ended without one.
            copy_begun=found.written_to is not None or (file.copy_begun and not left),
            corrupt_source=found.corrupt_source,
        )

    async def _state(self, job: Job, error_class: ErrorClass, reason: str) -> FileState:
        """Of a file that did not arrive: whether another attempt may bring it."""
        again = await self._failures.may_help(job, error_class, reason)
        return FileState.WAITING if again else FileState.FAILED

    def _hopeless(self, results: Sequence[FileResult]) -> bool:
        """Whether the rest would fail as most of these did: it is not tried in this attempt."""
        failed = Counter(one.error_class for one in results if one.state is not FileState.FINISHED)
        for error_class in OF_ONE_FILE:
            del failed[error_class]
        enough = min(FIRST_SLICE, self._config.fts.files_per_transfer)
        return len(results) >= enough and 2 * max(failed.values(), default=0) > len(results)

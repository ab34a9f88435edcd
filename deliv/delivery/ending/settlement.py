"""What FTS says of a transfer becomes the job's next state.

Where FTS finds a file that an earlier attempt may have copied, the file is compared with the
product, in the background: other jobs do not wait for that. Nothing is stored meanwhile. When deliv
dies, FTS gives the same answer at a later look, and the file is compared then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from deliv.delivery.comparison import DestinationComparison, Leftover
from deliv.delivery.destination import destination_file, file_url
from deliv.delivery.ending import leftovers
from deliv.delivery.ending.failure import Failure, FailureHandler, lacking
from deliv.delivery.ending.file_results import FileResults
from deliv.delivery.waiting import no_longer_waiting
from deliv.errors import LostRace, NoCredential, Unavailable
from deliv.gateways.fts import TransferOutcome, Verdict
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job
from deliv.model.phase import AT_FTS, Phase, phase
from deliv.model.rest import WAITING
from deliv.model.states import Event
from deliv.model.transfer import OpenTransfer
from deliv.ops import metrics
from deliv.store import Routing, Store

log = structlog.get_logger()

COMPARING = f"{WAITING}the file at the destination is compared with the product"


class Settlement:
    def __init__(
        self,
        store: Store,
        failures: FailureHandler,
        destination: DestinationComparison,
        files: FileResults,
    ) -> None:
        self._store = store
        self._failures = failures
        self._destination = destination
        self._files = files
        self.comparing: dict[str, asyncio.Task[None]] = {}  # by job id

    async def settle(self, job: Job, transfer: OpenTransfer, outcome: TransferOutcome) -> Job:
        ended = {Verdict.FINISHED, Verdict.FAILED, Verdict.CANCELLED}
        if job.report is not None and outcome.verdict in ended:
            return await self._settle_files(job, transfer, outcome)
        match outcome.verdict:
            case Verdict.FINISHED:
                if outcome.written_to not in {None, destination_file(job)}:
                    reason = f"it says that it has copied to {outcome.written_to}"
                    return await self._handle_unknown_outcome(job, replace(outcome, reason=reason))
                return await self._finish(job, outcome)
            case Verdict.FAILED | Verdict.CANCELLED:
                begun = phase(job) is Phase.STOPPING and outcome.begun
                failure = Failure(
                    error_class=outcome.error_class or ErrorClass.OTHER,
                    reason=outcome.reason,
                    may_have_partial_file=outcome.partial or begun,
                    copy_begun=outcome.written_to == destination_file(job),
                    corrupt_source=outcome.corrupt_source,
                    details=outcome.details,
                )
                in_the_way = failure.error_class is ErrorClass.EXISTS
                if in_the_way and phase(job) is not Phase.STOPPING:
                    leftover = (
                        None if job.partial else await leftovers.of_single_file(self._store, job)
                    )
                    if job.partial or leftover is not None:
                        return await self._begin_to_compare(
                            job, lambda job: self._conclude(job, failure, leftover)
                        )
                return await self._failures.attempt(job, failure)
            case Verdict.FORBIDDEN:
                metrics.FTS_UNUSABLE_ANSWERS.labels(endpoint=job.fts_endpoint).inc()
                failure = Failure(
                    error_class=outcome.error_class or ErrorClass.CREDENTIAL,
                    reason=f"FTS ({job.fts_endpoint}) does not let deliv see the transfer "
                    f"{transfer.fts_jobid}: {outcome.reason}",
                    may_have_partial_file=True,
                )
                return await self._failures.unseen(job, failure)
            case Verdict.UNKNOWN:
                return await self._handle_unknown_outcome(job, outcome)
            case Verdict.RUNNING:
                going_on = no_longer_waiting(job)
                return await self._store.update(job, **going_on) if going_on else job

    async def lost(self, job: Job, transfer: OpenTransfer) -> Job:
        """FTS knows nothing of a transfer that it had taken: whether it copied is open."""
        reason = f"FTS ({job.fts_endpoint}) has lost the transfer {transfer.fts_jobid}"
        failure = Failure(error_class=ErrorClass.OTHER, reason=reason, may_have_partial_file=True)
        if job.report is None:
            return await self._failures.attempt(job, failure)
        return await self._files.failed(job, transfer, failure, rest_alike=False)

    async def out_of_sight(self, job: Job, error: NoCredential) -> None:
        """FTS shows a job to its user alone, and deliv can't ask as that user any more.

        FTS goes on with what it was lent.
        """
        await self._failures.unseen(job, replace(lacking(error), may_have_partial_file=True))

    async def _finish(self, job: Job, outcome: TransferOutcome) -> Job:
        announced, copied = job.product_size, outcome.filesize
        if announced is not None and copied is not None and copied != announced:
            failure = Failure(
                error_class=ErrorClass.CHECKSUM,
                reason=f"the copy has {copied} bytes, the stager announced {announced}",
                may_have_partial_file=True,
                copy_begun=outcome.written_to == destination_file(job),
                corrupt_source=True,
                details=outcome.details,
            )
            return await self._failures.attempt(job, failure)
        return await self._deliver(
            job,
            product_size=copied if announced is None else announced,
            fts_details=outcome.details,
            detailed_status=f"delivered to {destination_file(job)}",
        )

    async def _deliver(self, job: Job, **columns: Any) -> Job:
        log.info("delivered", job_id=job.job_id, size=columns.get("product_size"))
        return await self._store.apply(
            job, Event.DELIVER, wake=(Routing.ADMIT, Routing.ATTEND), **columns
        )

    async def _settle_files(
        self, job: Job, transfer: OpenTransfer, outcome: TransferOutcome
    ) -> Job:
        files = await self._store.assigned_files(job, transfer.attempt, transfer.slice)
        directory = destination_file(job)
        outcomes: dict[int, TransferOutcome] = {}
        for file in files:
            found = outcome.files.get(file_url(directory, file.name))
            if found is None or found.verdict in {Verdict.RUNNING, Verdict.UNKNOWN}:
                said = "nothing" if found is None else found.reason or "that it has not ended"
                reason = f"the transfer has ended, and of the file {file.name} it says {said}"
                return await self._handle_unknown_outcome(job, replace(outcome, reason=reason))
            outcomes[file.number] = found
        if to_compare := await self._files.to_compare(job, files, outcomes):

            async def compare(job: Job) -> None:
                compared = await self._files.compared(job, to_compare, outcomes)
                now = await self._store.job(job.job_id)
                if now is None or now.attempt != job.attempt or phase(now) not in AT_FTS:
                    return
                job = now  # others of its transfers may have ended meanwhile
                await self._files.record(job, transfer, outcome, files, outcomes, compared)

            return await self._begin_to_compare(job, compare)
        return await self._files.record(job, transfer, outcome, files, outcomes, {})

    async def _begin_to_compare(self, job: Job, work: Callable[[Job], Awaitable[None]]) -> Job:
        """Begin to compare, unless that is under way; the job waits for the result."""
        if job.job_id in self.comparing:
            return job
        if job.detailed_status != COMPARING:
            job = await self._store.update(job, detailed_status=COMPARING)
        task = asyncio.get_running_loop().create_task(self._guard(job, work), context=Context())
        self.comparing[job.job_id] = task
        task.add_done_callback(partial(self._compared, job.job_id))
        return job

    async def _guard(self, job: Job, work: Callable[[Job], Awaitable[None]]) -> None:
        try:
            await work(job)
        except LostRace as error:
            log.info("job moved on meanwhile", job_id=job.job_id, reason=str(error))
        except Unavailable as error:
            log.warning("not compared; later again", job_id=job.job_id, reason=str(error))

    async def _conclude(self, job: Job, failure: Failure, leftover: Leftover | None) -> None:
        comparison = await self._destination.compare(
            job, destination_file(job), job.product_size, job.checksum, leftover
        )
        log.info("compared a destination", job_id=job.job_id, result=comparison.result)
        if comparison.equal:
            status = f"delivered to {destination_file(job)}, which {comparison.result}"
            await self._deliver(job, fts_details=failure.details, detailed_status=status)
        else:
            differs = replace(
                failure,
                reason=f"{failure.reason.rstrip('. ')}; {comparison.result}",
                may_have_partial_file=leftover is not None,
                copy_begun=comparison.own_part,
            )
            await self._failures.attempt(job, differs)

    def _compared(self, job_id: str, task: asyncio.Task[None]) -> None:
        del self.comparing[job_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a comparison failed; later again", job_id=job_id, exc_info=error)

    async def _handle_unknown_outcome(self, job: Job, outcome: TransferOutcome) -> Job:
        """It is not known how the copy fares: FTS is asked again, for some time."""
        reason = outcome.reason or f"its state is {outcome.state or 'not given'}"
        metrics.FTS_UNUSABLE_ANSWERS.labels(endpoint=job.fts_endpoint).inc()
        failure = Failure(
            error_class=ErrorClass.OTHER,
            reason=f"FTS ({job.fts_endpoint}) gives no clear answer on the copy: {reason}",
            may_have_partial_file=True,
        )
        return await self._failures.unseen(job, failure)

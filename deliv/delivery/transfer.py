"""Transferring: a staged product is handed to FTS, and FTS's verdict becomes the job's."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Any

import structlog

from deliv.config import Sweeps
from deliv.delivery import claim
from deliv.delivery.destination import destination_file, destination_key, staged_url
from deliv.delivery.ending.failure import Failure, FailureHandler
from deliv.delivery.endpoints import EndpointResolver
from deliv.errors import DestinationBusy, LostRace, NoCredential, Refused, Unavailable
from deliv.failpoints import Point, reach
from deliv.gateways.fts import Endpoint, Fts, Transfer, TransferOutcome, Verdict
from deliv.model.error_classes import IN_USE, ErrorClass
from deliv.model.job import Job, TransferIdentity
from deliv.model.phase import Phase, phase
from deliv.model.states import FINAL, Event, Status
from deliv.store import NOW, Store

log = structlog.get_logger()

WAITING = "waiting: "  # so begins `detailed_status` meanwhile
RETRY_REFUSED = 60.0  # seconds until an FTS that refuses deliv itself is tried again


class Transfers:
    def __init__(
        self,
        store: Store,
        fts: Fts,
        copiers: EndpointResolver,
        failing: FailureHandler,
        config: Sweeps,
    ) -> None:
        self._store = store
        self._fts = fts
        self._copiers = copiers
        self._failing = failing
        self._ask_again = float(config.ask_again)
        self._hold = float(config.hold)

    async def start(self, job: Job) -> None:
        """Hand a staged job to an FTS that is up. Its id there is fixed before FTS hears of it."""
        try:
            endpoint = await self._fts.choose()
            job = await self._assign(job, await self._copiers.acting(job, endpoint.name))
        except Unavailable as error:
            await self._wait(job, str(error), self._ask_again)
        except NoCredential as error:
            await self._wait_for_user(job, _lacking(error))
        except Refused as error:
            await self._refused(job, error)
        except DestinationBusy:
            reason = "another delivery to the same destination file is under way"
            failure = Failure(error_class=ErrorClass.EXISTS, reason=reason, advice=IN_USE)
            await self._failing.end(job, failure)
        else:
            await reach(Point.TRANSFER_ASSIGNED)
            await self.post(job)

    async def post(self, job: Job) -> None:
        """Submit to the FTS that the job is assigned to; repeating it never copies twice."""
        claim.check()
        try:
            await self._post(job)
        except LostRace:
            await self._make_up(job)
            raise

    async def settle(self, job: Job, outcome: TransferOutcome) -> Job:
        """Turn what FTS says about a transfer into the job's next state."""
        await reach(Point.OUTCOME_SEEN)
        if outcome.verdict is Verdict.FINISHED:
            if outcome.written_to not in {None, destination_file(job)}:
                reason = f"it says that it has copied to {outcome.written_to}"
                return await self._puzzled(job, replace(outcome, reason=reason))
            return await self._finished(job, outcome)
        if outcome.verdict in {Verdict.FAILED, Verdict.CANCELLED}:
            failure = Failure(
                error_class=outcome.error_class or ErrorClass.OTHER,
                reason=outcome.reason,
                partial=outcome.partial or (phase(job) is Phase.STOPPING and outcome.begun),
                copy_begun=outcome.written_to == destination_file(job),
                corrupt_source=outcome.corrupt_source,
                details=outcome.details,
            )
            return await self._failing.attempt(job, failure)
        if outcome.verdict is Verdict.UNKNOWN:
            return await self._puzzled(job, outcome)
        return await self._running(job)

    async def stop(self, job: Job) -> TransferOutcome | None:
        """Have FTS cancel a copy. The outcome when it has one, None when FTS never had the job.

        Unavailable, Refused: not confirmed.
        """
        if job.fts_jobid is None:
            return None
        try:
            endpoint = await self._copiers.of(job)
        except NoCredential as error:
            return _beyond_reach(error)
        known = await endpoint.cancel(job.fts_jobid)
        await reach(Point.CANCEL_SENT)
        if known is None:
            return None
        return (await endpoint.details([job.fts_jobid])).get(job.fts_jobid)

    async def withdraw(self, job: Job) -> None:
        """See that FTS does nothing more for a job that has ended. Unavailable: not confirmed."""
        if not job.fts_jobid:
            return
        try:
            endpoint = await self._copiers.of(job)
        except NoCredential as error:  # what FTS was lent has ended with it
            log.warning("nothing to withdraw with", job_id=job.job_id, reason=str(error))
            return
        await endpoint.cancel(job.fts_jobid)
        await reach(Point.TRANSFER_WITHDRAWN)

    async def lost(self, job: Job) -> None:
        """FTS knows nothing of a job it had taken: whether it copied is open."""
        reason = f"FTS ({job.fts_endpoint}) has lost the transfer {job.fts_jobid}"
        failure = Failure(error_class=ErrorClass.OTHER, reason=reason, partial=True)
        await self._failing.attempt(job, failure)

    async def out_of_sight(self, job: Job, error: NoCredential) -> None:
        """FTS shows a job to its user alone, and deliv can't ask as that user any more."""
        await self._failing.attempt(job, replace(_lacking(error), partial=True))

    async def _refused(self, job: Job, error: Refused) -> None:
        """FTS does not know deliv itself: the operators' to mend. Or not the user: theirs."""
        if job.copied_as is TransferIdentity.USER:
            await self._wait_for_user(job, _refusal(error))
            return
        await self._wait(job, str(error), RETRY_REFUSED)

    async def _wait_for_user(self, job: Job, failure: Failure) -> None:
        """The staged copy waits for a new delegation as long as all retries would take."""
        since = max(time for time in (job.time_staged, job.time_transferring) if time)
        if await self._store.age(since) >= self._failing.patience(failure.error_class):
            await self._failing.end(job, failure)
            return
        await self._wait(job, failure.reason, self._ask_again)

    async def _wait(self, job: Job, why: str, delay: float) -> None:
        """It is tried again after `delay` seconds; its submitter can see why it has to be."""
        log.warning("a job waits for FTS", job_id=job.job_id, reason=why)
        await self._store.update(job, delay=delay, detailed_status=f"{WAITING}{why}")

    async def _assign(self, job: Job, endpoint: Endpoint) -> Job:
        await endpoint.ensure_delegated()
        await reach(Point.DELEGATED)
        destination = destination_key(job)
        assignment: dict[str, Any] = {
            "fts_endpoint": endpoint.name,
            "fts_jobid": await endpoint.job_id(sid(job)),
            "destination_key": destination,
            "partial": job.partial and destination == job.destination_key,
            "copy_begun": job.copy_begun and destination == job.destination_key,
            **_no_longer_waiting(job),
        }
        if job.status is Status.STAGING:
            return await self._store.apply(job, Event.TRANSFER, delay=self._hold, **assignment)
        return await self._store.update(job, **assignment)

    async def _post(self, job: Job) -> None:
        try:
            endpoint = await self._copiers.of(job)
            await endpoint.submit(_transfer(job), job.fts_jobid)
            await reach(Point.TRANSFER_POSTED)
        except NoCredential as error:  # FTS may have taken it when it was posted before
            await self._failing.attempt(job, replace(_lacking(error), partial=True))
        except Unavailable as error:
            await self._wait(job, str(error), self._ask_again)
        except Refused as error:
            await self._failing.attempt(job, _refusal(error))
        else:
            log.info("handed to FTS", job_id=job.job_id, fts_jobid=job.fts_jobid)
            going_on = _no_longer_waiting(job)
            await self._store.update(job, delay=None, fts_posted=NOW, **going_on)
            await reach(Point.POST_STORED)

    async def _make_up(self, job: Job) -> None:
        """The submission came late: FTS must not copy for an attempt that is over."""
        now = await self._store.job(job.job_id)
        if now is None or now.fts_jobid != job.fts_jobid:
            await self.withdraw(job)
        elif now.status in FINAL - {Status.SUCCESS}:
            await self._store.update(now, delay=0, time_released=None)  # closed once more

    async def _running(self, job: Job) -> Job:
        told = _no_longer_waiting(job)
        return await self._store.update(job, **told) if told else job

    async def _puzzled(self, job: Job, outcome: TransferOutcome) -> Job:
        """Nobody knows how the copy fares: it is asked for again, and its submitter can see why."""
        said = outcome.reason or f"its state is {outcome.state or 'not told'}"
        status = f"{WAITING}FTS ({job.fts_endpoint}) gives no clear answer on the copy: {said}"
        log.warning("no clear answer from FTS", job_id=job.job_id, reason=said)
        if status == job.detailed_status:
            return job
        return await self._store.update(job, detailed_status=status)

    async def _finished(self, job: Job, outcome: TransferOutcome) -> Job:
        announced, copied = job.product_size, outcome.filesize
        if announced is not None and copied is not None and copied != announced:
            reason = f"the copy has {copied} bytes, the stager announced {announced}"
            failure = Failure(
                error_class=ErrorClass.CHECKSUM,
                reason=reason,
                partial=True,
                copy_begun=outcome.written_to == destination_file(job),
                corrupt_source=True,
                details=outcome.details,
            )
            return await self._failing.attempt(job, failure)
        log.info("delivered", job_id=job.job_id, size=copied)
        job = await self._store.apply(
            job,
            Event.DELIVER,
            wake=("stage", "transfer"),
            product_size=copied if announced is None else announced,
            fts_details=outcome.details,
            detailed_status=f"delivered to {destination_file(job)}",
        )
        await reach(Point.OUTCOME_STORED)
        return job


def sid(job: Job) -> str:
    return f"{job.job_id}:{job.attempt}"


def _no_longer_waiting(job: Job) -> dict[str, None]:
    """A job that is being stopped waits until FTS says that its copy is over."""
    waited = (job.detailed_status or "").startswith(WAITING)
    return {"detailed_status": None} if waited and phase(job) is not Phase.STOPPING else {}


def _transfer(job: Job) -> Transfer:
    return Transfer(
        sid=sid(job),
        source=staged_url(job.stager_hostname or "", job.stager_path or ""),
        destination=destination_file(job),
        checksum=job.checksum,
        size=job.product_size,
        overwrite=job.copy_begun,  # never where a file may be somebody else's
        metadata={"deliv_job_id": job.job_id, "attempt": job.attempt},
    )


def _lacking(error: NoCredential) -> Failure:
    return Failure(error_class=ErrorClass.CREDENTIAL, reason=str(error))


def _beyond_reach(error: NoCredential) -> TransferOutcome:
    """A copy that can't be stopped any more; what FTS was lent for it has ended as well."""
    return TransferOutcome(
        verdict=Verdict.CANCELLED,
        error_class=ErrorClass.CREDENTIAL,
        reason=f"FTS could not be asked to stop: {error}",
        partial=True,
    )


def _refusal(error: Refused) -> Failure:
    """FTS's 403 is about a credential, unless it names a storage that its operators have banned."""
    by_code = {403: ErrorClass.CREDENTIAL, 409: ErrorClass.EXISTS, 419: ErrorClass.CREDENTIAL}
    error_class = by_code.get(error.code, ErrorClass.OTHER)
    if error.code == HTTPStatus.FORBIDDEN and str(error).endswith(" is banned"):
        error_class = ErrorClass.BANNED
    return Failure(
        error_class=error_class,
        reason=f"FTS refused the transfer: {error}",
        advice=IN_USE if error_class is ErrorClass.EXISTS else None,
    )

"""Transferring: a staged product is handed to FTS."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from deliv.config import Config
from deliv.delivery import claim, slices
from deliv.delivery.destination import destination_key
from deliv.delivery.ending.conclusion import Conclusion
from deliv.delivery.ending.failure import (
    FRESH_STAGING,
    FRESH_TRANSFER,
    Failure,
    FailureHandler,
    lacking,
)
from deliv.delivery.ending.file_results import FileResults
from deliv.delivery.ending.withdrawal import Withdrawal
from deliv.delivery.endpoints import EndpointResolver, sid
from deliv.delivery.patience import Patience
from deliv.delivery.waiting import no_longer_waiting
from deliv.errors import DestinationBusy, LostRace, NoCredential, Refused, Unavailable
from deliv.gateways.fts import Endpoint, Fts, forbidden
from deliv.model.error_classes import IN_USE, ErrorClass
from deliv.model.file import TAKEN, File
from deliv.model.job import Job, TransferIdentity, delegation_id
from deliv.model.phase import Phase, phase
from deliv.model.rest import WAITING, Cause, user_place
from deliv.model.states import FINAL, Event, Status
from deliv.store import NOW, Store, Turn, waiting

log = structlog.get_logger()

RETRY_REFUSED = 60.0  # seconds until an FTS that refuses deliv itself is tried again


class FtsTransfers:
    def __init__(
        self,
        store: Store,
        fts: Fts,
        endpoints: EndpointResolver,
        failures: FailureHandler,
        withdrawal: Withdrawal,
        conclusion: Conclusion,
        results: FileResults,
        patience: Patience,
        config: Config,
    ) -> None:
        self._store = store
        self._fts = fts
        self._endpoints = endpoints
        self._failures = failures
        self._withdrawal = withdrawal
        self._conclusion = conclusion
        self._results = results
        self._patience = patience
        self._fts_settings = config.fts
        self._limits = config.limits
        self._rules = config.rest_rules
        self._ask_again = float(config.sweeps.ask_again)
        self._none_ready_until = -math.inf
        self._claim_timeout = float(config.sweeps.hold)

    @property
    def possible(self) -> bool:
        """Whether an FTS was ready for a new copy when it was looked, or it is to be looked again.

        Of thousands that are staged few find out that none is.
        """
        return time.monotonic() >= self._none_ready_until

    async def start(self, job: Job) -> None:
        """Hand a staged job to an FTS that is up. Its id there is stored before it is sent.

        Of many files a few: `start_another` is for those that follow.
        """
        if job.report is not None and not await self._store.has_open_files(job):
            await self._conclusion.conclude(job)  # it was not, after the last of them
            return
        taken_over = job.fts_endpoint is not None  # FTS has had it before a restore
        try:
            name = job.fts_endpoint or (await self._choose()).name
            endpoint = await self._endpoints.acting(job, name)
            await endpoint.ensure_delegated()
            assigned = await self._assign(job, endpoint)
        except Unavailable as error:
            await self._wait_to_begin(job, str(error), self._ask_again)
        except NoCredential as error:
            await self._wait_for_credential(job, lacking(error))
        except Refused as error:
            if job.copied_as is TransferIdentity.USER:
                await self._wait_for_credential(job, _refusal(error))
            else:  # FTS does not know deliv itself, which its operators can repair
                await self._wait_to_begin(job, str(error), RETRY_REFUSED)
        except DestinationBusy:
            failure = Failure(error_class=ErrorClass.EXISTS, reason=TAKEN, advice=IN_USE)
            await self._failures.end(job, failure)
        else:
            if assigned is not None and assigned.fts_jobid is not None:
                await self.post(assigned, again=taken_over)

    async def start_another(self, job: Job) -> None:
        """Hand over more files of a job, while FTS copies others of it, when it is its turn.

        Where that can't be just now, or its destination rests, it is tried again when the others
        have ended.
        """
        held = await self._patience.holds(job)
        if not held and await self._store.may_hand_over_more(job):
            try:
                endpoint = await self._endpoints.of(job)
                await endpoint.ensure_delegated()
                assigned = await self._assign(job, endpoint)
            except (Unavailable, NoCredential, Refused) as error:
                log.info("no more files for FTS now", job_id=job.job_id, reason=str(error))
            else:
                if assigned is not None:
                    if assigned.fts_jobid != job.fts_jobid:
                        await self.post(assigned)  # before a restore FTS may have had it
                    return
        await self._store.update(job, delay=None, turn_since=None)

    async def post(self, job: Job, *, again: bool = True) -> None:
        """Submit to the FTS that the job is assigned to; repeating it never copies twice.

        `again`: FTS may have taken it before, and a refusal says nothing of that.
        """
        claim.check()
        taken = False
        try:
            try:
                endpoint = await self._endpoints.of(job)
                files: list[File] = []
                if job.report is not None:
                    files = await self._store.assigned_files(job, job.attempt, job.slice)
                await endpoint.submit(slices.transfer(job, files), job.fts_jobid)
            except NoCredential as error:  # FTS may have taken it when it was posted before
                failure = replace(lacking(error), may_have_partial_file=True)
                await self._failures.unseen(job, failure, delay=self._ask_again)
            except Unavailable as error:
                await self._wait(job, str(error), self._ask_again)
            except Refused as error:
                await self._refused(job, _refusal(error), again=again)
            else:
                taken = True
                await self._posted(job)
        except LostRace:
            await self._compensate_late_call(job, taken=taken)
            raise

    async def _refused(self, job: Job, failure: Failure, *, again: bool) -> None:
        """Another attempt, unless FTS has this one from an earlier post, or may have it."""
        fts_jobid = job.fts_jobid or ""
        try:
            if again and fts_jobid in await (await self._endpoints.of(job)).details([fts_jobid]):
                await self._posted(job)
            elif job.report is None:
                await self._failures.attempt(job, failure)
            else:
                (*_, transfer) = (await self._store.open_transfers([job]))[job.job_id]
                await self._results.failed(job, transfer, failure)
        except Unavailable as error:
            await self._wait(job, str(error), self._ask_again)
        except (Refused, NoCredential):  # FTS says nothing of it to deliv
            hidden = replace(failure, may_have_partial_file=True)
            await self._failures.unseen(job, hidden, delay=self._ask_again)

    async def _posted(self, job: Job) -> None:
        log.info("handed to FTS", job_id=job.job_id, fts_jobid=job.fts_jobid)
        going_on = no_longer_waiting(job)
        delay = None if job.report is None else 0  # there may be more to hand over
        await self._store.update(job, delay=delay, fts_posted=NOW, unseen_since=None, **going_on)

    async def take_over(self, job: Job, endpoint: str, attempt: int) -> None:
        """Have a job that is with no FTS go on with the transfer that this one has for `attempt`.

        The attempts in between have ended, which the database has forgotten: what they left at the
        destination is not known.
        """
        if job.status is Status.SUBMITTED:  # what was done for it is given back when it ends
            job = await self._store.apply(job, Event.ADMIT, delay=self._claim_timeout)
        if job.attempt == attempt:
            await self._store.update(job, delay=0, fts_endpoint=endpoint)
            return
        while job.attempt < attempt:
            at_stager = job.status is Status.STAGING
            changes: dict[str, Any] = {
                **(FRESH_STAGING if at_stager else FRESH_TRANSFER),
                "attempt": job.attempt + 1,
                "partial": True,
                "copy_begun": False,
                "fts_endpoint": endpoint,
                "detailed_status": f"FTS ({endpoint}) has its attempt {attempt} already",
            }
            event = Event.RESTAGE if at_stager else Event.RETRANSFER
            job = await self._store.apply(job, event, **changes)

    async def _choose(self) -> Endpoint:
        try:
            return await self._fts.choose()
        except Unavailable:
            self._none_ready_until = time.monotonic() + self._ask_again
            raise

    async def _assign(self, job: Job, endpoint: Endpoint) -> Job | None:
        """As `Store.assign`."""
        number = job.slice if job.fts_jobid is None else job.slice + 1
        assignment: dict[str, Any] = {
            "fts_endpoint": endpoint.name,
            "fts_jobid": await endpoint.job_id(sid(replace(job, slice=number))),
            "fts_posted": None,
            "slice": number,
            "turn_since": None,
            **no_longer_waiting(job),
        }
        if job.report is None:
            destination = destination_key(job)
            same_file = destination == job.destination_key
            assignment |= {
                "destination_key": destination,
                "partial": job.partial and (same_file or job.destination_key is None),
                "copy_begun": job.copy_begun and same_file,
                "files_at_fts": 1,
                "bytes_at_fts": job.product_size or 0,
            }
        hosts = f"from {job.stager_hostname} to {job.destination_host}"
        turn = Turn(
            endpoint=endpoint.name,
            files_per_pair=self._limits.files_per_pair,
            bytes_per_pair=self._limits.bytes_per_pair,
            files_per_transfer=self._fts_settings.files_per_transfer,
            takes_new=job.fts_endpoint is None or await self._endpoints.takes_new(endpoint.name),
            waiting_status=f"{WAITING}its turn: FTS has enough to copy {hosts}",
        )
        return await self._store.assign(
            job,
            turn,
            slices.limits(number, self._fts_settings),
            partial(slices.file_key, job),
            delay=self._claim_timeout,
            delegation=delegation_id(job.copying_user) if job.copying_user else None,
            **assignment,
        )

    async def _wait_for_user(self, job: Job, failure: Failure) -> None:
        """The staged copy waits for a new delegation as long as all retries would take.

        One with several files may have been with FTS for hours when a credential ends.
        """
        since = max(time for time in (job.time_staged, job.time_transferring) if time)
        columns: dict[str, Any] = {}
        if job.report is not None and job.slice:
            since = job.unseen_since or since
            columns = {"unseen_since": NOW} if job.unseen_since is None else {}
        patience = self._failures.patience(failure.error_class)
        if not columns and await self._store.age(since) >= patience:
            await self._failures.end(job, failure)
        else:
            await self._wait(job, failure.reason, self._ask_again, **columns)

    async def _wait_for_credential(self, job: Job, failure: Failure) -> None:
        """It rests with the user's others; a new delegation lets them go."""
        if await self._store.credential_lasts(job.submitter, self._rules):  # and can't be used
            await self._wait_for_user(job, failure)
            return
        log.warning("a job waits for a delegation", job_id=job.job_id, reason=failure.reason)
        if job.fts_endpoint is not None:  # FTS may have it
            await self._failures.wait(job, Cause.DELEGATION, failure.reason, self._ask_again)
        else:
            await self._store.wait_at(user_place(job.submitter), job.submitter)
            await self._patience.released(job)

    async def _wait_to_begin(self, job: Job, why: str, delay: float) -> None:
        """As `_wait`, of a job that no FTS has: it is given up in the end."""
        if job.fts_endpoint is not None:
            await self._wait(job, why, delay)
            return
        _log_waiting(job, why)
        await self._failures.wait(job, Cause.FTS, why, delay, turn_since=None)

    async def _wait(self, job: Job, why: str, delay: float, **columns: Any) -> None:
        """It is tried again after `delay` seconds; its submitter can see why it has to be."""
        _log_waiting(job, why)
        columns |= {**waiting(job, Cause.FTS, why), "turn_since": None}
        await self._store.update(job, delay=delay, **columns)

    async def _compensate_late_call(self, job: Job, *, taken: bool) -> None:
        """The submission came late: FTS must not copy for an attempt that is over.

        `taken`: FTS has answered that it has it. Otherwise the one who moved the job on asks again.
        """
        version = None
        while (now := await self._store.job(job.job_id)) and now.version != version:
            version = now.version  # that of an archived job stays as it is
            if now.fts_jobid != job.fts_jobid:
                transfers = (await self._store.open_transfers([now]))[now.job_id]
                open_still = any(one.fts_jobid == job.fts_jobid for one in transfers)
                if open_still and now.status not in FINAL:
                    return  # more of its files were handed over since
                break
            try:
                if taken and phase(now) is Phase.HANDING_OVER:  # its other files ended meanwhile
                    await self._posted(now)
                if now.status in FINAL - {Status.SUCCESS}:
                    await self._store.update(now, delay=0, time_released=None)  # cleaned up again
            except LostRace:  # it moved on: what applies now?
                continue
            return
        await self._withdrawal.withdraw(job, late=True)


def _log_waiting(job: Job, why: str) -> None:
    """Once, when it begins to wait; what keeps it at each further look only at the level debug."""
    begins = job.waiting_for != Cause.FTS
    (log.warning if begins else log.debug)("a job waits for FTS", job_id=job.job_id, reason=why)


def _refusal(error: Refused) -> Failure:
    """FTS's 403 is about a credential, unless its operators have banned a storage or the user."""
    by_code = {
        403: forbidden(str(error)).error_class,
        409: ErrorClass.EXISTS,
        419: ErrorClass.CREDENTIAL,
    }
    error_class = by_code.get(error.code) or ErrorClass.OTHER
    return Failure(
        error_class=error_class,
        reason=f"FTS refused the transfer: {error}",
        advice=IN_USE if error_class is ErrorClass.EXISTS else None,
    )

"""Staging: the stager is asked, answers through /doneStaging, or runs out of time."""

from __future__ import annotations

from dataclasses import replace

import structlog

from deliv.config import Config
from deliv.delivery import authcode, claim
from deliv.delivery.destination import check_place
from deliv.delivery.ending.failure import Failure, FailureHandler
from deliv.errors import Forbidden, InvalidRequest, LostRace, Refused, Unavailable
from deliv.failpoints import Point, reach
from deliv.gateways.redaction import Redaction
from deliv.gateways.stager import Stager
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job, StageReport
from deliv.model.phase import AT_STAGER, phase
from deliv.model.states import FINAL, Event
from deliv.store import NOW, Store

log = structlog.get_logger()


class Staging:
    def __init__(
        self, store: Store, stager: Stager, failing: FailureHandler, config: Config
    ) -> None:
        self._store = store
        self._stager = stager
        self._failing = failing
        self._timeout = float(config.stager.timeout)
        self._hosts = frozenset(host.lower() for host in config.stager.gridftp_hosts)
        self._ask_again = float(config.sweeps.ask_again)

    async def request(self, job: Job) -> None:
        """Ask the stager, with a new code whose digest is stored before the stager hears it."""
        left = await self._left(job)
        if left <= 0:
            await self.time_out(job)
            return
        claim.check()
        if not await self._given_back(job):
            return
        code = authcode.new()
        job = await self._store.update(job, stager_callback=authcode.digest(code))
        await reach(Point.CODE_STORED)
        claim.check()
        try:
            await self._ask(job, code, left)
        except LostRace:
            await self._make_up(job)
            raise

    async def _given_back(self, job: Job) -> bool:
        """Whether the stager has dropped an earlier attempt's copy, which it would report again.

        False: it is not reached, and the job waits.
        """
        if job.attempt == 1 or job.stager_callback is not None:
            return True
        try:
            await self._stager.release(job.job_id)
        except Unavailable as error:
            log.warning("stager unreachable", job_id=job.job_id, reason=str(error))
            status = f"not reached yet: {error}"
            await self._store.update(job, delay=self._ask_again, stager_status=status)
            return False
        except Refused as error:  # it may stage the product all the same
            log.error("copy not given back", job_id=job.job_id, reason=str(error))
        return True

    async def _ask(self, job: Job, code: str, left: float) -> None:
        try:
            await self._stager.stage(job, code)
            await reach(Point.STAGER_ASKED)
        except Unavailable as error:
            log.warning("stager unreachable", job_id=job.job_id, reason=str(error))
            status = f"not reached yet: {error}"
            await self._store.update(job, delay=self._ask_again, stager_status=status)
        except Refused as error:
            failure = Failure(error_class=ErrorClass.STAGER, reason=str(error))
            await self._failing.attempt(job, failure)
        else:
            await self._store.update(job, delay=left, stager_accepted=NOW, stager_status="accepted")
            await reach(Point.STAGER_ACCEPTED)

    async def _make_up(self, job: Job) -> None:
        """The request came late: no copy may stay that is not released, no code be outdated."""
        now = await self._store.job(job.job_id)
        if now is None:
            return
        if now.status in FINAL:
            await self._store.update(now, delay=0, time_released=None)  # closed once more
        elif _is_expected(now) and now.stager_callback != job.stager_callback:
            await self._store.update(now, delay=0, stager_accepted=None)  # asked once more

    async def time_out(self, job: Job) -> None:
        """End staging that outlived `stager.timeout`; before that it goes on waiting."""
        left = await self._left(job)
        if left > 0:
            await self._store.update(job, delay=left)
            return
        await reach(Point.STAGING_TIMED_OUT)
        state = job.stager_status or "never asked"
        reason = f"the stager did not deliver within {self._timeout:.0f} s (stager: {state})"
        await self._failing.attempt(job, Failure(error_class=ErrorClass.TIMEOUT, reason=reason))

    async def report(self, report: StageReport) -> Job:
        """Take the stager's report, once. Forbidden for any code that is not the current one."""
        while True:
            job = await self._expecting(report)
            await reach(Point.REPORT_TAKEN)
            try:
                job = await self._record(job, report)
            except LostRace:  # our own bookkeeping got in between: look again
                continue
            await reach(Point.REPORT_STORED)
            return job

    async def _expecting(self, report: StageReport) -> Job:
        job = await self._store.job(report.job_id)
        if (
            job is None
            or not authcode.matches(report.authcode, job.stager_callback)
            or phase(job) not in AT_STAGER
        ):
            raise Forbidden("no staging of this job expects this code: unknown, used or outdated")
        if report.product_id != job.product_id:
            raise Forbidden("the code was not given for this product")
        return job

    async def _record(self, job: Job, report: StageReport) -> Job:
        report = replace(report, msg=Redaction(report.authcode).text(report.msg or "") or None)
        if not report.success:
            reason = f"the stager reported a failure: {report.msg or 'no reason given'}"
            failure = Failure(error_class=ErrorClass.STAGER, reason=reason)
            return await self._failing.attempt(job, failure, stager_status=report.msg)
        await self._hold_place(job, report)
        log.info("staged", job_id=job.job_id, staged_to=report.staged_to, path=report.path)
        return await self._store.apply(
            job,
            Event.STAGED,
            wake=("transfer",),
            stager_callback=None,
            time_staged=NOW,
            stager_hostname=report.staged_to,
            stager_path=report.path,
            stager_status=report.msg or "staged",
            product_size=report.size,
            checksum=report.checksum,
        )

    async def _hold_place(self, job: Job, report: StageReport) -> None:
        """A place that can't be used is told to the stager, and to the submitter who waits."""
        try:
            self._check_place(report)
        except (InvalidRequest, Forbidden) as error:
            status = f"its report was refused: {error}"
            await self._store.update(job, stager_status=status)
            raise

    def _check_place(self, report: StageReport) -> None:
        if not report.staged_to or not report.path:
            raise InvalidRequest("a successful report needs staged_to and path")
        if Redaction(report.authcode).found(f"{report.staged_to} {report.path}"):
            raise InvalidRequest("staged_to and path must not have the one-time code in them")
        check_place(report.staged_to, report.path)
        host = report.staged_to.lower()
        if host not in self._hosts and host.rsplit(":", 1)[0] not in self._hosts:
            raise Forbidden(f"staged_to names {host}, which is not among stager.gridftp_hosts")

    async def _left(self, job: Job) -> float:
        """Seconds until this attempt's staging deadline."""
        if job.time_staging is None:
            return self._timeout
        return self._timeout - await self._store.age(job.time_staging)


def _is_expected(job: Job) -> bool:
    """Whether the stager's report on the job would be taken."""
    return phase(job) in AT_STAGER and job.stager_callback is not None

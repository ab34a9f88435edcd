"""Staging: the stager is asked, answers through /doneStaging, or runs out of time."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import structlog

from deliv.config import Config
from deliv.delivery import authcode, claim
from deliv.delivery import manifest as manifests
from deliv.delivery.destination import check_place
from deliv.delivery.ending.failure import Failure, FailureHandler
from deliv.delivery.manifest import Manifest
from deliv.delivery.waiting import no_longer_waiting
from deliv.errors import DelivError, Forbidden, InvalidRequest, LostRace, Refused, Unavailable
from deliv.gateways.redaction import Redaction
from deliv.gateways.stager import Stager
from deliv.model.backoff import Backoff
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job, StageReport
from deliv.model.phase import AT_STAGER, Phase, phase
from deliv.model.rest import Cause
from deliv.model.states import FINAL, Event
from deliv.store import NOW, Routing, Store

log = structlog.get_logger()

WAITING = frozenset({Phase.WAITING_FOR_STAGER})
AT_ONCE = Backoff(0, 0)
# The report that counts may follow, and a stager with wrong codes alone must not be asked for ever.
LATE_REPORT = Backoff(60, 3600)
# Of a job whose product was reported as one file, after it had several.
NO_FILES = {
    "report": None, "report_digest": None, "files_directory": None, "files_total": None,
    "files_done": None, "bytes_total": None, "bytes_done": None,
}  # fmt: skip


class Staging:
    def __init__(
        self, store: Store, stager: Stager, failures: FailureHandler, config: Config
    ) -> None:
        self._store = store
        self._stager = stager
        self._failures = failures
        self._timeout = float(config.stager.timeout)
        self._hosts = frozenset(host.lower() for host in config.stager.gridftp_hosts)
        self._ask_again = float(config.sweeps.ask_again)

    async def request(self, job: Job) -> None:
        """Ask the stager, with a new code whose digest is stored before it is sent.

        Each attempt does so once, however late: that deliv or the stager was away, or that the
        attempt had to wait for its turn, says nothing about the product.
        """
        claim.check()
        copied_from = job.fts_endpoint is not None  # a transfer that was taken over reads it
        if job.attempt > 1 and job.stager_callback is None and not copied_from:
            try:  # else it would report the copy of the attempt before
                await self._stager.release(job.job_id)
            except Unavailable as error:
                await self._wait(job, error)
                return
            except Refused as error:  # it may stage the product all the same
                log.error("staged copy not released", job_id=job.job_id, reason=str(error))
        code = authcode.new()
        job = await self._store.update(job, stager_callback=authcode.digest(code))
        claim.check()
        try:
            try:
                await self._stager.stage(job, code)
            except Unavailable as error:
                await self._wait(job, error)
            except Refused as error:
                failure = Failure(error_class=ErrorClass.STAGER, reason=str(error))
                await self._failures.attempt(job, failure)
            else:
                await self._store.update(
                    job,
                    delay=self._timeout,
                    stager_accepted=NOW,
                    stager_status="accepted",
                    **no_longer_waiting(job),
                )
        except LostRace:
            outdated = job.stager_callback or ""
            await self._ask_or_release_again(job.job_id, outdated, AT_STAGER, AT_ONCE)
            raise

    async def time_out(self, job: Job) -> None:
        """End staging that outlived `stager.timeout`; before that it goes on waiting."""
        left = await self._left(job)
        if left > 0:
            await self._store.update(job, delay=left)
            return
        status, seconds = job.stager_status, round(self._timeout)
        reason = f"the stager did not deliver within {seconds} s (stager: {status})"
        await self._failures.attempt(job, Failure(error_class=ErrorClass.TIMEOUT, reason=reason))

    async def report(self, report: StageReport) -> Job:
        """Take the stager's report, once. Forbidden for any code that is not the current one.

        With another code the stager may have worked off a request that deliv had given up.
        """
        while True:
            job = await self._store.job(report.job_id)
            if (
                job is None
                or not authcode.matches(report.authcode, job.stager_callback)
                or phase(job) not in AT_STAGER
            ):
                if job is not None and await self._has_counted(job, report):
                    return job
                outdated = authcode.digest(report.authcode)
                await self._ask_or_release_again(report.job_id, outdated, WAITING, LATE_REPORT)
                raise Forbidden(
                    "no staging of this job expects this code: unknown, used or outdated"
                )
            if report.product_id != job.product_id:
                raise Forbidden("the code was not given for this product")
            try:
                return await self._record(job, report)
            except LostRace:  # deliv's own update came between: look again
                continue

    async def _record(self, job: Job, report: StageReport) -> Job:
        report = replace(report, msg=Redaction(report.authcode).text(report.msg or "") or None)
        if not report.success:
            reason = f"the stager reported a failure: {report.msg or 'no reason given'}"
            failure = Failure(error_class=ErrorClass.STAGER, reason=reason)
            return await self._failures.attempt(job, failure, stager_status=report.msg)
        try:
            self._check_place(report)
            manifest = None if report.files is None else await manifests.check(job, report)
        except (InvalidRequest, Forbidden) as error:  # the submitter, who waits, can see it too
            status = f"its report was refused: {error}"
            await self._store.update(job, stager_status=status)
            raise
        log.info("staged", job_id=job.job_id, staged_to=report.staged_to, path=report.path)
        if manifest is not None:
            return await self._record_files(job, report, manifest)
        fresh = NO_FILES if job.report is not None else {}
        return await self._count(
            job, report, product_size=report.size, checksum=report.checksum, **fresh
        )

    async def _record_files(self, job: Job, report: StageReport, manifest: Manifest) -> Job:
        """Store the files batch by batch, then have the report count: all of it or nothing."""
        identity, number = uuid.uuid4().bytes, 1
        same_place = job.files_directory == manifest.directory
        try:
            async for batch in manifests.batches(report.files or ()):
                earlier = job.report if same_place else None
                await self._store.add_files(job, identity, number, batch, earlier)
                number += len(batch)
            totals = await self._store.file_totals(job, identity)
            return await self._count(
                job,
                report,
                report=identity,
                report_digest=manifest.digest,
                files_directory=manifest.directory,
                destination_key=None,
                product_size=totals["bytes_total"],
                checksum=None,
                **totals,
            )
        except DelivError:
            await self._discard(job, identity)
            raise

    async def _count(self, job: Job, stage_report: StageReport, **columns: Any) -> Job:
        return await self._store.apply(
            job,
            Event.STAGED,
            wake=(Routing.ATTEND,),
            stager_callback=None,
            time_staged=NOW,
            stager_hostname=stage_report.staged_to,
            stager_path=stage_report.path,
            stager_status=stage_report.msg or "staged",
            **columns,
        )

    async def _discard(self, job: Job, identity: bytes) -> None:
        """What is left when this fails goes with the job; and the database keeps what counts."""
        try:
            while await self._store.discard_files(job.job_id, identity, manifests.BATCH):
                pass
        except DelivError as error:
            log.warning("files of a report are left", job_id=job.job_id, reason=str(error))

    async def _has_counted(self, job: Job, report: StageReport) -> bool:
        """Whether it is the report that the job has its files from, once more."""
        if report.files is None or job.report_digest is None or not report.success:
            return False
        try:
            return (await manifests.check(job, report)).digest == job.report_digest
        except InvalidRequest:
            return False

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
        """Seconds until this attempt's staging deadline; the stager's, once it has accepted."""
        since = job.stager_accepted or job.time_staging
        return self._timeout - await self._store.age(since) if since else self._timeout

    async def _wait(self, job: Job, error: Unavailable) -> None:
        """For a stager that is not reached."""
        log.warning("stager unreachable", job_id=job.job_id, reason=str(error))
        why = f"the stager can't be reached: {error}"
        await self._failures.wait(
            job, Cause.ARCHIVE, why, self._ask_again, stager_status=f"not reached yet: {error}"
        )

    async def _ask_or_release_again(
        self, job_id: str, outdated: str, awaited: frozenset[Phase], pause: Backoff
    ) -> None:
        """The stager works for a code that does not count: that with the digest `outdated`.

        No copy may remain that is not released, and a job in a phase of `awaited` must not expect a
        code that the stager has not.
        """
        version = None
        while (now := await self._store.job(job_id)) and now.version != version:
            version = now.version  # that of an archived job stays as it is
            expected = phase(now) in awaited and now.stager_callback not in {None, outdated}
            try:
                if now.status in FINAL:
                    await self._store.update(now, delay=0, time_released=None)  # cleaned up again
                elif expected and now.time_staging is not None:
                    delay = pause.after(await self._store.age(now.time_staging))
                    await self._store.update(now, delay=delay, stager_accepted=None)
            except LostRace:  # it moved on: what applies now?
                continue
            return

"""Staging, as a job sees it: it joins a staging of its product, and takes over what comes of it."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import structlog

from deliv.config import Config
from deliv.delivery import authcode
from deliv.delivery import manifest as manifests
from deliv.delivery.destination import check_place
from deliv.delivery.ending.failure import Failure, FailureHandler
from deliv.delivery.manifest import BATCH, Manifest
from deliv.delivery.stager_requests import StagerRequests
from deliv.errors import DelivError, Forbidden, InvalidRequest, LostRace
from deliv.gateways.redaction import Redaction
from deliv.gateways.stager import Stager
from deliv.model.backoff import Backoff
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job, StageReport
from deliv.model.phase import AT_STAGER, phase
from deliv.model.staging import REPORT_EXPECTED, SharedStaging, StagingState
from deliv.model.states import Event
from deliv.store import NOW, Routing, Store

log = structlog.get_logger()

# The report that counts may follow, and a stager with wrong codes alone must not be asked for ever.
LATE_REPORT = Backoff(60, 3600)
WAITING = frozenset({StagingState.WAITING})
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
        self._failures = failures
        self.requests = StagerRequests(store, stager, failures, config)
        self._timeout = float(config.stager.timeout)
        self._claim_timeout = float(config.sweeps.hold)
        self._hosts = frozenset(host.lower() for host in config.stager.gridftp_hosts)

    async def proceed(self, job: Job) -> None:
        """Go on with the staging of the product: join or open one, and take over how it ended.

        While the stager works for it, the job rests.
        """
        job, staging = await self._store.enter_staging(job, self._timeout)
        if staging.state is StagingState.ASKING:
            await self.requests.attend(staging.staging_id)
            staging = await self._store.staging(staging.staging_id) or staging
        if staging.state is StagingState.STAGED:
            await self._take_over(job, staging)
        elif staging.state not in REPORT_EXPECTED:
            failure = Failure(
                error_class=ErrorClass(staging.error_class or ErrorClass.OTHER),
                reason=staging.reason or "its staging was given up",
            )
            await self._failures.attempt(job, failure, stager_status=staging.status)

    async def report(self, report: StageReport) -> None:
        """Take the stager's report, once. Forbidden for any code that is not the current one.

        With another code the stager may have worked off a request that deliv had given up.
        """
        while True:
            staging = await self._reported(report.job_id)
            if (
                staging is None
                or not authcode.matches(report.authcode, staging.code)
                or staging.state not in REPORT_EXPECTED
            ):
                if staging is not None and await self._has_counted(staging, report):
                    return
                outdated = authcode.digest(report.authcode)
                await self.requests.repeat(report.job_id, outdated, LATE_REPORT, WAITING)
                raise Forbidden(
                    "no staging of this job expects this code: unknown, used or outdated"
                )
            if report.product_id != staging.product_id:
                raise Forbidden("the code was not given for this product")
            try:
                await self._record(staging, report)
                break
            except LostRace:  # deliv's own update came between: look again
                continue
        await self._go_on(staging.staging_id)

    async def _go_on(self, job_id: str) -> None:
        """The job that opened the staging does at once; it and the others hear of it otherwise."""
        try:
            known = await self._store.job(job_id)
            if known is not None and phase(known) in AT_STAGER:
                job = await self._store.claim(job_id, self._claim_timeout)
                if job is not None and phase(job) in AT_STAGER:
                    await self.proceed(job)
        except DelivError as error:
            log.warning("reported; the job goes on later", job_id=job_id, reason=str(error))

    async def _reported(self, job_id: str) -> SharedStaging | None:
        """The staging that the stager knows by this id."""
        while True:
            staging = await self._store.staging(job_id)
            job = None if staging else await self._store.job(job_id)
            if job is None or phase(job) not in AT_STAGER or job.stager_callback is None:
                return staging
            try:  # the release before has asked for this job alone
                return (await self._store.enter_staging(job, self._timeout))[1]
            except LostRace:
                continue

    async def _record(self, staging: SharedStaging, report: StageReport) -> None:
        report = replace(report, msg=Redaction(report.authcode).text(report.msg or "") or None)
        if not report.success:
            reason = f"the stager reported a failure: {report.msg or 'no reason given'}"
            await self.requests.fail(staging, ErrorClass.STAGER, reason, status=report.msg)
            return
        try:
            self._check_place(report)
            manifest = None if report.files is None else await manifests.check(report)
            if manifest is not None:
                await self._check_deliverable(staging, report, manifest)
        except (InvalidRequest, Forbidden) as error:  # submitters, who wait, can see it too
            status = f"its report was refused: {error}"
            await self._store.update_staging(staging, tell={"stager_status": status}, status=status)
            raise
        log.info("staged", job_id=staging.staging_id, staged_to=report.staged_to, path=report.path)
        if manifest is not None:
            await self._record_files(staging, report, manifest)
        else:
            await self._count(staging, report, size=report.size, checksum=report.checksum)

    async def _record_files(
        self, staging: SharedStaging, report: StageReport, manifest: Manifest
    ) -> None:
        """Store the files batch by batch, then have the report count: all of it or nothing."""
        identity, number = uuid.uuid4().bytes, 1
        try:
            async for batch in manifests.batches(report.files or ()):
                await self._store.add_staging_files(staging, identity, number, batch)
                number += len(batch)
            await self._count(
                staging,
                report,
                report=identity,
                report_digest=manifest.digest,
                size=manifest.size,
                files_total=manifest.count,
                longest_name=manifest.longest,
            )
        except DelivError:
            await self._discard(staging.staging_id, identity)
            raise

    async def _count(
        self, staging: SharedStaging, stage_report: StageReport, **columns: Any
    ) -> None:
        await self._store.update_staging(
            staging,
            delay=None,
            wake=True,
            state=StagingState.STAGED,
            staged=NOW,
            hostname=stage_report.staged_to,
            path=stage_report.path,
            status=stage_report.msg or "staged",
            **columns,
        )

    async def _discard(self, staging_id: str, identity: bytes) -> None:
        """What is left when this fails goes with the staging; the database keeps what counts."""
        try:
            while await self._store.discard_staging_files(staging_id, identity, BATCH):
                pass
        except DelivError as error:
            log.warning("files of a report are left", job_id=staging_id, reason=str(error))

    async def _has_counted(self, staging: SharedStaging, report: StageReport) -> bool:
        """Whether it is the report that the staging has its files from, once more."""
        if report.files is None or staging.report_digest is None or not report.success:
            return False
        try:
            return (await manifests.check(report)).digest == staging.report_digest
        except InvalidRequest:
            return False

    async def _check_deliverable(
        self, staging: SharedStaging, report: StageReport, manifest: Manifest
    ) -> None:
        """InvalidRequest when none of the jobs that wait for it can have files of such names."""
        refused: InvalidRequest | None = None
        for job in await self._store.waiting_for(staging):
            try:
                manifests.directory(job, report.path or "", manifest.count, manifest.longest)
                return
            except InvalidRequest as error:
                refused = error
        if refused is not None:
            raise refused

    def _check_place(self, report: StageReport) -> None:
        if not report.staged_to or not report.path:
            raise InvalidRequest("a successful report needs staged_to and path")
        if Redaction(report.authcode).found(f"{report.staged_to} {report.path}"):
            raise InvalidRequest("staged_to and path must not have the one-time code in them")
        check_place(report.staged_to, report.path)
        host = report.staged_to.lower()
        if host not in self._hosts and host.rsplit(":", 1)[0] not in self._hosts:
            raise Forbidden(f"staged_to names {host}, which is not among stager.gridftp_hosts")

    async def _take_over(self, job: Job, staging: SharedStaging) -> Job:
        """The job has what was reported. Where this was cut short, it goes on with other files."""
        log.info("has its copy", job_id=job.job_id, staging_id=staging.staging_id)
        columns: dict[str, Any] = {}
        if staging.report is None:
            columns = {"product_size": staging.size, "checksum": staging.checksum}
            columns |= NO_FILES if job.report is not None else {}
        else:
            try:
                directory = manifests.directory(
                    job, staging.path or "", staging.files_total or 0, staging.longest_name or ""
                )
            except InvalidRequest as error:
                failure = Failure(error_class=ErrorClass.STAGER, reason=str(error))
                return await self._failures.end(job, failure)
            job = await self._take_files(job, staging, directory)
            totals = await self._store.file_totals(job, staging.report)
            columns = {
                "report": staging.report,
                "report_digest": staging.report_digest,
                "files_directory": directory,
                "destination_key": None,
                "product_size": totals["bytes_total"],
                "checksum": None,
                **totals,
            }
        return await self._store.apply(
            job,
            Event.STAGED,
            wake=(Routing.ATTEND,),
            stager_callback=None,
            time_staged=NOW,
            stager_hostname=staging.hostname,
            stager_path=staging.path,
            stager_status=staging.status,
            **columns,
        )

    async def _take_files(self, job: Job, staging: SharedStaging, directory: str) -> Job:
        """The job's own rows of all files, some at a time; its claim is extended meanwhile."""
        report, number = staging.report or b"", 1
        earlier = job.report if job.files_directory == directory else None
        while batch := await self._store.staging_files(staging, number, BATCH):
            job = await self._store.update(job, delay=self._claim_timeout)
            await self._store.add_files(job, report, number, batch, earlier)
            number += len(batch)
            await asyncio.sleep(0)
        return job

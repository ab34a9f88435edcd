"""The calls about one job, as the prototype named them."""

from __future__ import annotations

from typing import Any

import msgspec

from deliv.delivery.waiting import WAITING
from deliv.http import types
from deliv.http.call.answers import DoneAnswer
from deliv.http.call.base import Call
from deliv.http.call.bearer import bearer
from deliv.http.call.parameters import Parameters
from deliv.http.handlers.job_view import public
from deliv.model.job import Job, StageReport, TransferIdentity
from deliv.model.phase import AT_FTS, AT_STAGER, phase
from deliv.model.states import FINAL


class JobParameters(Parameters, frozen=True, kw_only=True):
    job_id: types.AnyJobId


class TransferStatus(Call[JobParameters]):
    """GET /transferStatus: every column of the job that is shown and not null."""

    path = "/transferStatus"
    accepts = JobParameters

    async def get(self) -> None:
        job = await self.services.submissions.job(self.query_parameters().job_id)
        self.authorise("status", owner=job.submitter)
        waiting = self._outage(job) | await self._limit(job)
        self.write(waiting | public(job) | await self._warning(job))

    def _outage(self, job: Job) -> dict[str, Any]:
        """That the stager or the FTS which has the job is down, until the job itself says it."""
        reason = None
        if phase(job) in AT_FTS:
            who = f"FTS ({job.fts_endpoint})"
            reason = self.services.outage(f"fts:{job.fts_endpoint}")
        elif phase(job) in AT_STAGER:
            who, reason = "the stager", self.services.outage("stager")
        return {"detailed_status": f"waiting: {who} can't be asked: {reason}"} if reason else {}

    async def _limit(self, job: Job) -> dict[str, Any]:
        """That a limit holds the job. It is not written down: it changes with other jobs."""
        limit = await self.services.submissions.held_by(job)
        return {"detailed_status": f"{WAITING}{limit}"} if limit else {}

    async def _warning(self, job: Job) -> dict[str, Any]:
        """That the credential which the job is copied with ends soon."""
        delegation = self.services.delegation
        if job.copied_as is TransferIdentity.SERVICE or job.status in FINAL or delegation is None:
            return {}
        warning = await delegation.warning(job.submitter)
        return {"warning": warning} if warning else {}


class StageReportParameters(Parameters, frozen=True, kw_only=True):
    job_id: types.Text
    product_id: types.Text
    authcode: types.AuthCode
    success: types.Boolean
    staged_to: types.StagedTo | None = None
    path: types.StagedPath | None = None
    msg: str | None = None
    size: types.Size | None = None
    checksum: types.Checksum | None = None


class DoneStaging(Call[StageReportParameters]):
    """POST /doneStaging: the stager's report on one product."""

    path = "/doneStaging"
    accepts = StageReportParameters

    async def post(self) -> None:
        if self.services.stager_role:
            self.authorise("stage_report")
        report = StageReport(**msgspec.structs.asdict(self.body_parameters()))
        self.audit_line.note(action="stage_report")
        if self.services.issuer:
            token = bearer(self.request.headers)
            good = await self.services.issuer.check(token, self.identity.thumbprint)
            self.audit_line.note(client_id=good.client_id, token_id=good.token_id)
        await self.services.staging.report(report)
        self.answer(DoneAnswer(msg="report taken"))

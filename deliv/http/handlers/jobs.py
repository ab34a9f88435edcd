"""The REST calls, as the prototype named them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from deliv.delivery.deadline import parse_deadline
from deliv.delivery.delegation import decide
from deliv.delivery.destination import parse_directory
from deliv.http.call.base import Call
from deliv.http.call.bearer import bearer
from deliv.http.call.parameters import Accepts, boolean, checksum, size
from deliv.model.job import PUBLIC, Job, StageReport, TransferIdentity
from deliv.model.states import FINAL, Status


class SubmitTransfer(Call):
    """POST /submitTransfer: 202 and the job's id."""

    error_fields: ClassVar[dict[str, Any]] = {"job_id": None}
    accepts = Accepts(required=("product_id", "destination_path"), optional=("deadline",))

    async def post(self) -> None:
        values = self.body_parameters()
        directory = parse_directory(values["destination_path"])
        deadline = parse_deadline(values["deadline"]) if "deadline" in values else None
        allowed = self.authorise("submit", destination_host=directory.host)
        copied_as = await decide(self.services.delegating, self.identity.dn, allowed.copy_as)
        job = await self.services.submissions.submit(
            self.identity.dn,
            values["product_id"],
            directory,
            key=self.request.headers.get("Idempotency-Key"),
            quota=allowed.quota,
            deadline=deadline,
            copied_as=copied_as,
            fqans=self.identity.attributes.fqans,
            limited=self.identity.limited,
        )
        self.note(job_id=job.job_id)
        self.set_status(202)
        self.write({"job_id": job.job_id, "error": False, "msg": "accepted for delivery"})


class TransferStatus(Call):
    """GET /transferStatus: every column of the job that concerns its owner and is not null."""

    accepts = Accepts(required=("job_id",))

    async def get(self) -> None:
        job = await self.services.submissions.job(self.query_parameters()["job_id"])
        self.authorise("status", owner=job.submitter)
        self.write(self._waiting(job) | public(job) | await self._warning(job))

    def _waiting(self, job: Job) -> dict[str, Any]:
        """That whoever has the job in hand is out, which the job itself does not show yet."""
        trouble = None
        if job.status is Status.TRANSFERRING:
            who = f"FTS ({job.fts_endpoint})"
            trouble = self.services.trouble(f"fts:{job.fts_endpoint}")
        elif job.status is Status.STAGING and job.time_staged is None:
            who, trouble = "the stager", self.services.trouble("stager")
        return {"detailed_status": f"waiting: {who} can't be asked: {trouble}"} if trouble else {}

    async def _warning(self, job: Job) -> dict[str, Any]:
        """That the credential which the job is copied with ends soon."""
        delegating = self.services.delegating
        if job.copied_as is TransferIdentity.SERVICE or job.status in FINAL or delegating is None:
            return {}
        warning = await delegating.warning(job.submitter)
        return {"warning": warning} if warning else {}


class CancelTransfer(Call):
    """POST /cancelTransfer: 200 when the job is cancelled, 202 while FTS has yet to confirm."""

    accepts = Accepts(required=("job_id",))

    async def post(self) -> None:
        job = await self.services.submissions.job(self.body_parameters()["job_id"])
        self.authorise("cancel", owner=job.submitter)
        job = await self.services.cancelling.cancel(job.job_id)
        pending = job.status is Status.TRANSFERRING
        self.set_status(202 if pending else 200)
        msg = "FTS is being asked to stop the copy" if pending else "cancelled"
        self.write({"job_id": job.job_id, "status": job.status, "error": False, "msg": msg})


class DoneStaging(Call):
    """POST /doneStaging: the stager's report on one product."""

    accepts = Accepts(
        required=("job_id", "product_id", "authcode", "success"),
        optional=("staged_to", "path", "msg", "size", "checksum"),
        plain=("success", "size"),
    )

    async def post(self) -> None:
        if self.services.stager_role:
            self.authorise("stage_report")
        report = self._report()
        await self._check_token()
        await self.services.staging.report(report)
        self.write({"error": False, "msg": "report taken"})

    def _report(self) -> StageReport:
        values = self.body_parameters()
        return StageReport(
            job_id=values["job_id"],
            product_id=values["product_id"],
            authcode=values["authcode"],
            success=boolean(values, "success"),
            staged_to=values.get("staged_to"),
            path=values.get("path"),
            msg=values.get("msg"),
            size=size(values, "size"),
            checksum=checksum(values, "checksum"),
        )

    async def _check_token(self) -> None:
        """Where `stager.callback.token` wants one."""
        self.note(action="stage_report")
        if self.services.issuer:
            token = bearer(self.request.headers)
            good = await self.services.issuer.check(token, self.identity.thumbprint)
            self.note(client_id=good.client_id, token_id=good.token_id)


def public(job: Job) -> dict[str, Any]:
    """The job as its owner sees it; times in ISO 8601, UTC."""
    columns = {name: getattr(job, name) for name in PUBLIC}
    return {name: plain(value) for name, value in columns.items() if value is not None}


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value

"""The calls about one job, as the prototype named them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from deliv.errors import InvalidRequest
from deliv.http import types
from deliv.http.call.answers import DoneAnswer
from deliv.http.call.base import Call
from deliv.http.call.bearer import bearer
from deliv.http.call.long_json import JsonArray, read
from deliv.http.call.parameters import (
    JSON,
    Pairs,
    Parameters,
    decode_utf8,
    from_pairs,
    media_type,
)
from deliv.http.handlers.job_view import public, retry
from deliv.http.handlers.waits import as_of_now
from deliv.http.services import Services
from deliv.model.file import ReportedFile
from deliv.model.job import Job, StageReport, TransferIdentity
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
        (job,) = await as_of_now(self.services, [job])
        retries = await self.services.retries.repeating([job])
        self.write(public(job) | retry(job, retries) | await self._warning(job))

    async def _warning(self, job: Job) -> dict[str, Any]:
        """That the credential which the job is copied with ends soon."""
        delegation = self.services.delegation
        if job.copied_as is TransferIdentity.SERVICE or job.status in FINAL or delegation is None:
            return {}
        warning = await delegation.warning(job.submitter)
        return {"warning": warning} if warning else {}


PATIENCE = 20.0  # seconds that a long report waits for its turn
OF_FILE = frozenset({"name", "size", "checksum"})


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


class FileParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several files of a product."""

    name: types.FileName
    size: types.FileSize | None = None
    checksum: types.Checksum | None = None


class StageReportDocument(StageReportParameters, frozen=True, kw_only=True):
    """What a report in JSON may have besides: the files that `path` is the directory of."""

    files: Annotated[list[FileParameters], Meta(min_length=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class ReportedFiles:
    """The files of a report, each read when it is its turn; InvalidRequest."""

    array: JsonArray

    def __iter__(self) -> Iterator[ReportedFile]:
        for number, raw in enumerate(self.array, 1):
            yield _file(number, raw)


class DoneStaging(Call[StageReportParameters]):
    """POST /doneStaging: the stager's report on one product.

    With a list of files it may be long: who sends it is looked at first, and few are in memory at
    once.
    """

    path = "/doneStaging"
    accepts = StageReportParameters
    accepts_in_json = StageReportDocument
    has_turn = answering = False

    def initialize(self, services: Services) -> None:
        if self._in_json:
            self.body_limit = services.reports.body_limit
        super().initialize(services)

    async def before_body(self) -> None:
        if self._in_json:
            self._check_role()
            await self._check_token()
            await self.services.long_reports.acquire(self.identity.dn, PATIENCE)
            self.has_turn = True

    async def post(self) -> None:
        self.answering = True
        try:
            await self.services.staging.report(await self._report())
        finally:
            self.answering = False
            self._leave()
        self.answer(DoneAnswer(msg="report taken"))

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._leave()

    def on_finish(self) -> None:
        super().on_finish()
        self._leave()

    @property
    def _in_json(self) -> bool:
        return media_type(self.request.headers.get("Content-Type", "")) == JSON

    async def _report(self) -> StageReport:
        if not self._in_json:
            self._check_role()
            report = StageReport(**msgspec.structs.asdict(self.body_parameters()))
            await self._check_token()
            return report
        self.no_query()
        most = self.services.reports.files
        others, files = await read(decode_utf8(self.body()), "files", most)
        given = self._decode(from_pairs(others, StageReportParameters))
        listed = None if files is None else ReportedFiles(array=files)
        return StageReport(**msgspec.structs.asdict(given), files=listed)

    def _check_role(self) -> None:
        if self.services.stager_role:
            self.authorise("stage_report")

    async def _check_token(self) -> None:
        self.audit_line.note(action="stage_report")
        if self.services.issuer:
            token = bearer(self.request.headers)
            good = await self.services.issuer.check(token, self.identity.thumbprint)
            self.audit_line.note(client_id=good.client_id, token_id=good.token_id)

    def _leave(self) -> None:
        if self.has_turn and not self.answering:
            self.has_turn = False
            self.services.long_reports.release(self.identity.dn)


def _file(number: int, raw: object) -> ReportedFile:
    """By itself, and fast: there may be very many."""
    values = dict(raw) if isinstance(raw, Pairs) else {}
    name, size, checksum = values.get("name"), values.get("size"), values.get("checksum")
    if not isinstance(raw, Pairs) or len(values) < len(raw) or not values.keys() <= OF_FILE:
        raise InvalidRequest(f"files: item {number} must be an object of name, size and checksum")
    if not isinstance(name, str):
        raise InvalidRequest(f"files: the name of item {number} must be a string")
    if size is not None and not (type(size) is int and 0 <= size < 2**63):
        raise InvalidRequest(f"files: the size of {name[:200]!r} must be a number of bytes")
    if checksum is not None and not isinstance(checksum, str):
        raise InvalidRequest(f"files: the checksum of {name[:200]!r} must be a string")
    about = f"files: the checksum of {name[:200]!r}"
    return ReportedFile(
        name=name, size=size, checksum=(checksum and types.read_checksum(about, checksum)) or None
    )

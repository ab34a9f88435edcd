"""The list of a job's files."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from deliv.delivery.destination import file_url
from deliv.http import types
from deliv.http.call.answers import Answer, shown
from deliv.http.call.base import Call
from deliv.http.call.parameters import Parameters
from deliv.model.error_classes import ADVICE, IN_USE, ErrorClass
from deliv.model.file import TAKEN, File, FileListing, FileState
from deliv.model.job import Job

SHOWN = ("name", "state", "size", "checksum", "attempt", "error_class", "reason", "partial")


class FileListParameters(Parameters, frozen=True, kw_only=True):
    job_id: types.AnyJobId
    state: FileState | None = None
    cursor: types.FileCursor | None = None
    limit: types.PageSize = types.USUAL


class FileAnswer(Answer, frozen=True, kw_only=True):
    name: types.FileName
    destination: Annotated[str, Meta(description="The URL that it is delivered to.", min_length=1)]
    state: FileState
    size: types.FileSize | UnsetType = UNSET
    checksum: Annotated[str, Meta(pattern="^ADLER32:[0-9a-f]{8}$")] | UnsetType = UNSET
    attempt: Annotated[
        int, Meta(ge=0, description="Of the job: that in which it was tried last. 0: not yet.")
    ]
    error_class: ErrorClass | UnsetType = UNSET
    reason: Annotated[str, Meta(description="Why it did not arrive.")] | UnsetType = UNSET
    remedy: Annotated[str, Meta(description="What can be done.")] | UnsetType = UNSET
    partial: Annotated[
        bool,
        Meta(description="An attempt may have left (part of) a file at the destination."),
    ]


class TransferFiles(Call[FileListParameters]):
    """GET /transferFiles: the files of one job, page by page."""

    path = "/transferFiles"
    accepts = FileListParameters

    async def get(self) -> None:
        asked = self.query_parameters()
        job = await self.services.submissions.job(asked.job_id)
        self.authorise("status", owner=job.submitter)
        # One more than are shown, to know whether there is another page.
        attempt, number = map(int, (asked.cursor or "0-0").split("-"))
        listing = FileListing(state=asked.state, after=(attempt, number), limit=asked.limit + 1)
        found = await self.services.submissions.files(job, listing)
        page = found[: asked.limit]
        following = f"{page[-1].attempt}-{page[-1].number}" if len(found) > len(page) else None
        files = [_answer(job, file) for file in page]
        self.write({"job_id": job.job_id, "files": files, "next": following})


def _answer(job: Job, file: File) -> dict[str, Any]:
    where = file_url(job.files_directory or "", file.name)
    more = {"destination": where}
    if file.error_class is not None:
        taken = file.reason == TAKEN  # by another delivery, not by a file that is there
        more["remedy"] = IN_USE if taken else ADVICE[ErrorClass(file.error_class)]
    return shown(file, SHOWN) | more

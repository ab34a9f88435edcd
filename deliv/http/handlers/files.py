"""The list of a job's files."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from deliv.delivery.destination import file_url
from deliv.errors import InvalidRequest
from deliv.http import types
from deliv.http.call.answers import Answer, shown
from deliv.http.call.base import Call
from deliv.http.call.parameters import Parameters
from deliv.http.handlers.job_view import own
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
        after = position(asked.cursor, job.job_id, asked.state)
        listing = FileListing(state=asked.state, after=after, limit=asked.limit + 1)
        found = await self.services.submissions.files(job, listing)
        page = found[: asked.limit]
        more = len(found) > len(page)
        following = cursor_behind(page[-1], job.job_id, asked.state) if more else None
        files = [_answer(job, replace(file, reason=own(job, file.reason))) for file in page]
        self.write({"job_id": job.job_id, "files": files, "next": following})


def cursor_behind(file: File, job_id: str, state: FileState | None) -> str:
    """The `next` of a page that ends with this file."""
    return f"{file.attempt}-{file.number}-{_mark(job_id, state)}"


def position(cursor: str | None, job_id: str, state: FileState | None) -> tuple[int, int]:
    """The attempt and the number of the file that the page begins behind; InvalidRequest."""
    attempt, number, *mark = (cursor or "0-0").split("-")
    if mark and mark != [_mark(job_id, state)]:  # the release before makes none
        raise InvalidRequest(
            "cursor is of another list: give it with the job_id and state of the page before"
        )
    return int(attempt), int(number)


def _mark(job_id: str, state: FileState | None) -> str:
    """What tells the cursors of one list from those of another."""
    return sha256(f"{job_id} {state or ''}".encode()).hexdigest()[:8]


def _answer(job: Job, file: File) -> dict[str, Any]:
    where = file_url(job.files_directory or "", file.name)
    more = {"destination": where}
    if file.error_class is not None:
        taken = file.reason == TAKEN  # by another delivery, not by a file that is there
        more["remedy"] = IN_USE if taken else ADVICE[ErrorClass(file.error_class)]
    return shown(file, SHOWN) | more

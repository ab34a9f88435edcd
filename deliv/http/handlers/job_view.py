"""A job as its owner sees it. Which columns are shown is declared in deliv/model/job.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from deliv.http import types
from deliv.http.call.answers import Answer, shown
from deliv.model.error_classes import ErrorClass
from deliv.model.job import PUBLIC, Job
from deliv.model.rest import Cause
from deliv.model.states import FINAL, Status

# A list of jobs has no long texts; /transferStatus has them.
NOT_LISTED = frozenset({"fts_details", "stager_status", "stager_hostname", "stager_path"})
# Texts of others than deliv, in which a staging's id may be.
OF_OTHERS = ("detailed_status", "fts_details", "stager_status", "stager_path")
ANOTHER = "STAGING"
LISTED = tuple(name for name in PUBLIC if name not in NOT_LISTED)
# Columns of which the description says more than their Python type does.
TYPES: dict[str, Any] = {
    "job_id": types.JobId,
    "product_id": types.ProductId,
    "detailed_status": Annotated[str, Meta(description="For people: what happened, what to do.")],
    "destination_path": types.CanonicalDirectory,
    "submitter": types.Dn,
    "label": types.Label,
    "retry_of": types.JobId,
    "waiting_for": Cause,
    "error_class": ErrorClass,
    "attempt": types.Positive,
    "product_size": Annotated[int, Meta(ge=0, description="Bytes.")],
    "checksum": Annotated[str, Meta(pattern="^ADLER32:[0-9a-f]{8}$")],
}
# When a job in each final status ended, by the column that says it.
ENDS = {
    Status.SUCCESS: "time_success",
    Status.ERROR: "time_error",
    Status.CANCELLED: "time_cancelled",
}
ALSO = {Status.ERROR: ["error_class", "detailed_status"]}


def public(job: Job) -> dict[str, Any]:
    return _own(job, shown(_as_of_now(job), PUBLIC))


def summary(job: Job) -> dict[str, Any]:
    return _own(job, shown(_as_of_now(job), LISTED))


def retry(job: Job, retries: Mapping[str, str]) -> dict[str, Any]:
    """Which job repeats this one; `retries`: ids of such jobs by those of the repeated ones."""
    return {"retried_by": retries[job.job_id]} if job.job_id in retries else {}


def own(job: Job, text: str | None) -> str | None:
    """Without the id of another job, which may be another user's, that its copy is staged by.

    That of the job which it repeats is the user's own.
    """
    if text is None or job.staging_id in {None, job.job_id, job.retry_of}:
        return text
    return text.replace(job.staging_id or "", ANOTHER)


def _own(job: Job, values: dict[str, Any]) -> dict[str, Any]:
    texts = {name: own(job, values[name]) for name in OF_OTHERS if name in values}
    return {**values, **texts}


def _as_of_now(job: Job) -> Job:
    """A file counts as done when FTS has copied it, before that is recorded.

    Which ones these are is not known until then: their bytes are those of so many of what is left.
    """
    if job.status is not Status.TRANSFERRING or not job.files_arriving:
        return job
    done, total = job.files_done or 0, job.files_total or 0
    size = job.bytes_done
    if size is not None and job.bytes_total is not None:
        size += (job.bytes_total - size) * job.files_arriving // max(1, total - done)
    return replace(job, files_done=done + job.files_arriving, bytes_done=size)


def by_status() -> list[dict[str, Any]]:
    """JSON schemas, exactly one of which holds for a job: it has the end of its status alone."""
    schemas: list[dict[str, Any]] = []
    for status in (None, *ENDS):
        absent = {column: False for final, column in ENDS.items() if final is not status}
        if status is None:
            unfinished = [one for one in Status if one not in FINAL]
            schemas.append({"properties": {"status": {"enum": unfinished}, **absent}})
        else:
            required = [ENDS[status], *ALSO.get(status, [])]
            properties = {"status": {"const": status}, **absent}
            schemas.append({"required": required, "properties": properties})
    return schemas


def answer(name: str, columns: tuple[str, ...], **more: Any) -> type[msgspec.Struct]:
    """The type of a job's answer: what may be NULL may be left out, times are texts."""
    hints = get_type_hints(Job)
    fields: list[Any] = []
    for column in columns:
        hint = hints[column]
        optional = NoneType in get_args(hint)
        (plain,) = set(get_args(hint)) - {NoneType} if optional else {hint}
        kind = TYPES.get(column, types.Time if plain is datetime else plain)
        fields.append((column, kind | UnsetType, UNSET) if optional else (column, kind))
    fields += [(extra, kind | UnsetType, UNSET) for extra, kind in more.items()]
    return msgspec.defstruct(name, fields, bases=(Answer,), kw_only=True, module=__name__)


RETRIED_BY = Annotated[
    types.JobId, Meta(description="Of a job that ended in ERROR: the job that repeats it.")
]
ListedJobAnswer = answer("ListedJobAnswer", LISTED, retried_by=RETRIED_BY)
JobAnswer = answer(
    "JobAnswer",
    PUBLIC,
    retried_by=RETRIED_BY,
    warning=Annotated[
        str,
        Meta(
            description="The credential that the user delegated, which this job needs, ends soon.",
            min_length=1,
        ),
    ],
)

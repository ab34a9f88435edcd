"""What deliv works on: jobs, submissions, stager reports. Times are timezone-aware, in UTC."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, TypeVar, get_type_hints

from deliv.model.file import ReportedFile
from deliv.model.states import Status

T = TypeVar("T")

SHOWN = "shown to callers"
Shown = Annotated[T, SHOWN]


class TransferIdentity(StrEnum):
    """Under whose identity FTS copies a job."""

    SERVICE = "service"
    USER = "user"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A checked request for one delivery, not yet a job.

    `destination_path` is a gsiftp URL of a directory, `destination_host` its host (no port),
    `submitter` a DN in the grid's one-line form, `quota` how many unfinished jobs it may have with
    this one (None: any number). After `deadline` the product is not wanted any more. `copied_as`
    user needs a credential that the submitter has delegated. `fqans` and `limited`, the submitter's
    VOMS attributes and kind of proxy, are kept for later decisions of the policy. `label` names the
    submitter's campaign that it is of, `retry_of` a job of theirs that ended in ERROR and that it
    repeats. With `deadline_lapses` a deadline that is over is none, else it is refused.
    """

    job_id: str
    product_id: str
    destination_path: str
    destination_host: str
    submitter: str
    idempotency_key: str | None = None
    quota: int | None = None
    deadline: datetime | None = None
    copied_as: TransferIdentity = TransferIdentity.SERVICE
    fqans: tuple[str, ...] = ()
    limited: bool = False
    label: str | None = None
    retry_of: str | None = None
    deadline_lapses: bool = False


def idempotency_digest(submitter: str, key: str) -> bytes:
    """SHA-256 of both: a key is its submitter's own."""
    return sha256(f"{submitter}\0{key}".encode()).digest()


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of `jobs`. The columns, their meaning and units: deliv/store/sql/*.sql.

    Fields have the columns' names. What is not Shown is internal and never shown to callers.
    """

    job_id: Shown[str]
    product_id: Shown[str]
    status: Shown[Status]
    detailed_status: Shown[str | None] = None
    destination_path: Shown[str]
    submitter: Shown[str]
    fts_jobid: Shown[str | None] = None
    fts_details: Shown[str | None] = None
    stager_callback: str | None = None
    stager_path: Shown[str | None] = None
    stager_hostname: Shown[str | None] = None
    stager_status: Shown[str | None] = None
    time_submitted: Shown[datetime]
    time_staging: Shown[datetime | None] = None
    time_staged: Shown[datetime | None] = None
    time_transferring: Shown[datetime | None] = None
    time_error: Shown[datetime | None] = None
    time_success: Shown[datetime | None] = None
    time_cancelled: Shown[datetime | None] = None
    error_class: Shown[str | None] = None
    attempt: Shown[int] = 1
    product_size: Shown[int | None] = None
    checksum: Shown[str | None] = None
    deadline: Shown[datetime | None] = None
    label: Shown[str | None] = None
    retry_of: Shown[str | None] = None
    copied_as: Shown[TransferIdentity] = TransferIdentity.SERVICE
    cancel_requested: Shown[datetime | None] = None
    waiting_for: Shown[str | None] = None
    waiting_since: Shown[datetime | None] = None
    files_directory: Shown[str | None] = None
    files_total: Shown[int | None] = None
    files_done: Shown[int | None] = None
    bytes_total: Shown[int | None] = None
    bytes_done: Shown[int | None] = None
    version: int = 0
    due_at: datetime | None = None
    destination_host: str = ""
    destination_key: bytes | None = None
    idempotency_key: str | None = None
    idempotency_digest: bytes | None = None
    request_digest: bytes | None = None
    stager_accepted: datetime | None = None
    time_released: datetime | None = None
    fts_endpoint: str | None = None
    fts_posted: datetime | None = None
    fts_misses: int = 0
    partial: bool = False
    copy_begun: bool = False
    copy_recorded: bool = False
    deadline_passed: datetime | None = None
    submitter_fqans: tuple[str, ...] | None = None
    submitter_limited: bool = False
    unseen_since: datetime | None = None
    report: bytes | None = None
    report_digest: bytes | None = None
    slice: int = 0
    files_at_fts: int = 0
    bytes_at_fts: int = 0
    files_active: int = 0
    files_arriving: int = 0
    turn_since: datetime | None = None
    turn_given: bool = False
    staging_id: str | None = None
    excused: int = 0
    rest: bytes | None = None
    let_go: datetime | None = None

    @property
    def own_attempts(self) -> int:
        """Without those that failed for what is not the job's fault."""
        return self.attempt - self.excused

    @property
    def copying_user(self) -> str | None:
        """The DN under whose identity FTS copies it, and shows it; None: deliv's own."""
        return self.submitter if self.copied_as is TransferIdentity.USER else None


PUBLIC = tuple(
    name
    for name, hint in get_type_hints(Job, include_extras=True).items()
    if SHOWN in getattr(hint, "__metadata__", ())
)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Which jobs to list, those submitted last first: at most `limit`; None is any.

    Submitted from `since` on and before `until`; of those only what comes after the job `before`.
    A `label` is of one submitter, who is given with it.
    """

    submitter: str | None = None
    label: str | None = None
    status: Status | None = None
    product_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: str | None = None
    limit: int


def delegation_id(dn: str) -> str:
    """Names a user's delegation in URLs, as FTS does by a digest of the DN."""
    return sha256(dn.encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Delegation:
    """What a user has delegated, or is about to: a row of `delegations`, keys still encrypted."""

    delegation_id: str
    dn: str
    request: str | None = None
    request_key: bytes | None = None
    proxy: str | None = None
    proxy_key: bytes | None = None
    expires: datetime | None = None
    notified_at: datetime | None = None
    version: int = 0


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What the stager says through /doneStaging. `size` in bytes, `checksum` as ADLER32:hex.

    With `files`, which can be gone through several times, `path` is their directory.
    """

    job_id: str
    product_id: str
    authcode: str
    success: bool
    staged_to: str | None
    path: str | None
    msg: str | None
    size: int | None = None
    checksum: str | None = None
    files: Iterable[ReportedFile] | None = None

"""What deliv works on: jobs, submissions, stager reports. Times are timezone-aware, in UTC."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum

from deliv.model.states import Status


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
    VOMS attributes and kind of proxy, are kept for later decisions of the policy.
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


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of `jobs`. The columns, their meaning and units: deliv/store/sql/*.sql."""

    job_id: str
    product_id: str
    status: Status
    detailed_status: str | None = None
    destination_path: str
    submitter: str
    fts_jobid: str | None = None
    fts_details: str | None = None
    stager_callback: str | None = None
    stager_path: str | None = None
    stager_hostname: str | None = None
    stager_status: str | None = None
    time_submitted: datetime
    time_staging: datetime | None = None
    time_staged: datetime | None = None
    time_transferring: datetime | None = None
    time_error: datetime | None = None
    time_success: datetime | None = None
    time_cancelled: datetime | None = None
    error_class: str | None = None
    attempt: int = 1
    product_size: int | None = None
    checksum: str | None = None
    deadline: datetime | None = None
    copied_as: TransferIdentity = TransferIdentity.SERVICE
    cancel_requested: datetime | None = None
    # internal from here on: never shown to callers
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
    deadline_passed: datetime | None = None
    submitter_fqans: tuple[str, ...] | None = None
    submitter_limited: bool = False


INTERNAL = frozenset(
    {
        "stager_callback", "version", "due_at", "destination_host", "destination_key",
        "idempotency_key", "idempotency_digest", "request_digest", "stager_accepted",
        "time_released", "fts_endpoint", "fts_posted", "fts_misses", "partial", "copy_begun",
        "deadline_passed", "submitter_fqans", "submitter_limited",
    }
)  # fmt: skip
PUBLIC = tuple(field.name for field in fields(Job) if field.name not in INTERNAL)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Which jobs to list, those submitted last first: at most `limit`; None is any.

    Submitted from `since` on and before `until`; of those only what stands behind the job `before`.
    """

    submitter: str | None = None
    status: Status | None = None
    product_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: str | None = None
    limit: int


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
    told: datetime | None = None
    version: int = 0


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What the stager says through /doneStaging. `size` in bytes, `checksum` as ADLER32:hex."""

    job_id: str
    product_id: str
    authcode: str
    success: bool
    staged_to: str | None
    path: str | None
    msg: str | None
    size: int | None = None
    checksum: str | None = None

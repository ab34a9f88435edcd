"""A staging: one product brought to disk once, for all jobs that want it at that time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5


class StagingState(StrEnum):
    ASKING = "ASKING"  # the stager has to be asked, or may have been
    WAITING = "WAITING"  # for the stager's report
    STAGED = "STAGED"
    FAILED = "FAILED"  # none of its jobs has its product from it
    RELEASING = "RELEASING"  # no job needs it: the stager is to give the copy back
    RELEASED = "RELEASED"


REPORT_EXPECTED = frozenset({StagingState.ASKING, StagingState.WAITING})


@dataclass(frozen=True, kw_only=True)
class SharedStaging:
    """One row of `stagings`. The columns and their meaning: deliv/store/sql/*_stagings.sql."""

    staging_id: str
    product_id: str
    open_key: bytes | None = None
    state: StagingState = StagingState.ASKING
    version: int = 0
    due_at: datetime | None = None
    code: str | None = None
    begun: datetime
    accepted: datetime | None = None
    staged: datetime | None = None
    closed: datetime | None = None
    released: datetime | None = None
    status: str | None = None
    error_class: str | None = None
    reason: str | None = None
    hostname: str | None = None
    path: str | None = None
    size: int | None = None
    checksum: str | None = None
    report: bytes | None = None
    report_digest: bytes | None = None
    files_total: int | None = None
    longest_name: str | None = None


def another_id(job_id: str, version: int) -> str:
    """For a staging that a job opens, at that version, while one with its own id is there."""
    return str(uuid5(UUID(job_id), str(version)))

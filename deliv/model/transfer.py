"""The transfers of a job: what FTS has of it, as far as deliv knows."""

from __future__ import annotations

from dataclasses import dataclass

from deliv.model.job import Job


@dataclass(frozen=True, kw_only=True)
class OpenTransfer:
    """One that FTS has or may have. The columns: deliv/store/sql/0014_transfers.sql."""

    attempt: int
    slice: int
    fts_jobid: str
    files: int = 1
    active: int = 0
    ended: int = 0
    arrived: int = 0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How many files of a transfer FTS copies now, has ended, and has copied."""

    active: int
    ended: int
    arrived: int


def only_transfer(job: Job) -> tuple[OpenTransfer, ...]:
    """That of a job with a single file, if it has one."""
    if job.fts_jobid is None:
        return ()
    return (OpenTransfer(attempt=job.attempt, slice=job.slice, fts_jobid=job.fts_jobid),)

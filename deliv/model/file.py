"""The files of a job whose product has several, each on its way to a destination of its own."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

# Why a file fails whose destination is another job's.
TAKEN = "another delivery to the same destination file is under way"


class FileState(StrEnum):
    WAITING = "WAITING"  # not there (yet); of a job that has ended: not there
    ASSIGNED = "ASSIGNED"  # to the job's transfer
    FINISHED = "FINISHED"
    FAILED = "FAILED"  # no other attempt may bring it


@dataclass(frozen=True, kw_only=True)
class ReportedFile:
    """As the stager reports it: `name` relative to the staged directory, `size` in bytes."""

    name: str
    size: int | None = None
    checksum: str | None = None


@dataclass(frozen=True, kw_only=True)
class File:
    """One row of `job_files`. The columns: deliv/store/sql/0013_files.sql."""

    number: int
    name: str
    size: int | None
    checksum: str | None
    state: FileState
    attempt: int
    slice: int
    error_class: str | None
    reason: str | None
    partial: bool
    copy_begun: bool
    copy_recorded: bool
    corrupt_source: bool


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """What became of an assigned file. `size` as copied."""

    number: int
    state: FileState
    size: int | None = None
    error_class: str | None = None
    reason: str | None = None
    partial: bool = False
    copy_begun: bool = False
    corrupt_source: bool = False


@dataclass(frozen=True, kw_only=True)
class FileGroup:
    """Files of a job that are alike, and how many; `first` is the number of one of them.

    `tried`: in the job's present attempt.
    """

    state: FileState
    tried: bool
    error_class: str | None
    partial: bool
    copy_begun: bool
    corrupt_source: bool
    count: int
    first: int


@dataclass(frozen=True, kw_only=True)
class FileListing:
    """Which files of a job to list: at most `limit`, after the cursor `after`."""

    state: FileState | None = None
    after: tuple[int, int] = (0, 0)  # attempt and number of the last one seen
    limit: int


def name_key(name: str) -> bytes:
    """Equal for names that are one in Unicode's normal form C, which some file systems keep."""
    return blake2b(unicodedata.normalize("NFC", name).encode(), digest_size=16).digest()

"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from deliv.errors import DelivError


class Unchecked(DelivError):
    """Something could not be checked; the message says what and why."""


class Fix(StrEnum):
    """What can be repaired safely: repeating it, or doing it too early, is harmless."""

    DUE = "it is due now"
    DESTINATION = "its destination is free again"
    CODE = "its one-time code counts no more"
    ASK = "the stager is asked again"
    ASK_STAGING = "the stager is asked again for all its jobs"
    STAGING_DUE = "the staging is due now"
    STAGING_FILES = "the files of the staging are removed"
    RELEASE = "the stager has given the copy back"
    WITHDRAW = "FTS was asked to stop it"
    ADMIT = "it goes on with what the stager has for it"
    TAKE_OVER = "it goes on with what FTS has for it"
    ADMISSION = "the row is there again"
    LEASE = "it is removed"
    COUNTS = "its jobs are counted again"
    SPACE = "the stagings are counted again"
    FILES = "its files are counted again"
    STRAY_FILES = "they are removed"
    WRITER = "the destinations are free again"
    REST = "it goes on"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`rule` names what does not hold, `text` says it.

    `subject`: an FTS id, a lease's name, or a submitter. `attempt`: the one that an FTS works on.
    `user`: the DN that FTS shows the transfer to, where that is not deliv's. `doubtful`: all may be
    in order, and the fix is harmless; so a run that repairs nothing does not report it.
    """

    rule: str
    text: str
    job_id: str | None = None
    version: int | None = None
    endpoint: str | None = None
    subject: str | None = None
    attempt: int = 0
    user: str | None = None
    fix: Fix | None = None
    doubtful: bool = False

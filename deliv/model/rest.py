"""What a job waits for that is not its fault, and when a place rests as a whole. Pure.

A place is what several jobs have in common: a destination's server, its directory, or a user's
delegated credential. After some failures in a row it rests: nothing is staged for it nor
handed over to it, until one job that tries at growing intervals succeeds. Then the others go on in
steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from urllib.parse import urlsplit

from deliv.model.backoff import Backoff
from deliv.model.job import Job, TransferIdentity, delegation_id

WAITING = "waiting: "  # so the `detailed_status` of a job begins that waits
PAUSES = Backoff(60, 1800)
ALL_GO = 7  # successes in a row, by steps of 1, 2 and 4 jobs, behind which all others go on
LET_GO = 2  # jobs that each of these successes lets go


class Cause(StrEnum):
    """What a job waits for, as `waiting_for` shows it."""

    DESTINATION = "destination"  # its server can't be reached
    SPACE = "space"  # there is none in its directory
    ARCHIVE = "archive"  # the stager, or the server of the staged copy
    FTS = "FTS"
    DELEGATION = "delegation"  # the user's credential has ended
    OPERATORS = "operators"  # who have its destination rest


# What is not of one job alone.
PLACES = (Cause.DESTINATION, Cause.SPACE, Cause.DELEGATION, Cause.OPERATORS)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where jobs rest together. `host`: of which no job is admitted meanwhile, on any port."""

    cause: Cause
    name: str
    host: str | None = None

    @property
    def key(self) -> bytes:
        return blake2b(f"{self.cause}\0{self.name}".encode(), digest_size=16).digest()


@dataclass(frozen=True, kw_only=True)
class RestRules:
    """Durations in seconds.

    `after`: failures in a row. `keep_staged`: how long a resting job keeps its staged copy.
    `patience`: how long a job waits for a place; `patience_new` for a server that nothing was ever
    delivered to. `least_life`: of a delegated credential that is begun with; None: none are.
    """

    after: int = 3
    pauses: Backoff = PAUSES
    keep_staged: float = 3600
    patience: float = 7 * 86400
    patience_new: float = 3600
    least_life: float | None = None


@dataclass(frozen=True, kw_only=True)
class Rest:
    """One row of `rests`. The columns: deliv/store/sql/0018_rests.sql.

    All who wait there are shown the `reason`: it must not name what only one of them may know.
    """

    place_key: bytes
    cause: Cause
    place: str
    host: str | None
    reason: str
    failures: int
    failed: datetime | None
    proven: bool
    since: datetime | None
    next_try: datetime | None
    tries: int
    allowance: int
    successes: int
    tried: str
    begun_by: str | None

    def patience(self, rules: RestRules) -> float:
        """Seconds for which a job waits here."""
        return rules.patience if self.proven else rules.patience_new

    def waited_since(self, job: Job) -> datetime:
        return max(self.since or job.time_submitted, job.time_submitted)

    def hindrance(self, why: str | None = None) -> str:
        """What keeps jobs from there, for a submitter. `why`: how that of the job itself failed."""
        match self.cause:
            case Cause.OPERATORS:
                return f"the operators have {self.place} rest: {self.reason}"
            case Cause.DELEGATION:
                return "the last delegated credential has ended, or ends too soon"
            case Cause.SPACE:
                what = f"{self.place} has no space left"
            case _:
                what = f"{self.place} can't be reached"
        reason = (why or self.reason).rstrip(". ")
        return f"{what} ({reason})" if reason else what

    def sentence(self, why: str | None = None) -> str:
        """What the submitter of a job that waits should know, without a full stop."""
        what = self.hindrance(why)
        match self.cause:
            case Cause.OPERATORS:
                return what + (
                    f"; until {self.next_try:%Y-%m-%d %H:%M} UTC" if self.next_try else ""
                )
            case Cause.DELEGATION:
                return f"for a new delegated credential: {what}"
        text = f"{what}; it is tried again at growing intervals"
        if not self.proven:
            text += (
                ". Nothing was ever delivered there: if its name or port is wrong, cancel "
                "this job and submit another"
            )
        return text


def operators_place(host: str) -> Place:
    return Place(cause=Cause.OPERATORS, name=host, host=host)


def user_place(submitter: str) -> Place:
    return Place(cause=Cause.DELEGATION, name=delegation_id(submitter))


def server_place(destination_path: str) -> Place:
    """Host and port: another port of the host is another server."""
    return Place(cause=Cause.DESTINATION, name=urlsplit(destination_path).netloc)


def directory_place(destination_path: str) -> Place:
    return Place(cause=Cause.SPACE, name=destination_path)


def place_of(cause: Cause, job: Job) -> Place | None:
    """Where a job rests with others for this; None: each by itself."""
    match cause:
        case Cause.DESTINATION:
            return server_place(job.destination_path)
        case Cause.SPACE:
            return directory_place(job.destination_path)
        case Cause.DELEGATION:
            return user_place(job.submitter)
    return None


def places(job: Job) -> tuple[Place, ...]:
    """All where it may have to rest."""
    found = [
        operators_place(job.destination_host),
        server_place(job.destination_path),
        directory_place(job.destination_path),
    ]
    if job.copied_as is TransferIdentity.USER:
        found.append(user_place(job.submitter))
    return tuple(found)

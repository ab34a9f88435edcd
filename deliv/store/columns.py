"""How a Job and the columns of `jobs` become each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from deliv.db.database import Row
from deliv.model.job import Job, TransferIdentity
from deliv.model.states import Status


class Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


NOW: Final = Sentinel("NOW")  # as a column's value: the database's time
KEEP: Final = Sentinel("KEEP")  # as a delay: due_at stays as it is

COLUMNS = tuple(field.name for field in fields(Job))
SELECT = f"SELECT {', '.join(COLUMNS)} FROM jobs"  # noqa: S608 - the names of Job's fields
FIXED = frozenset(
    {
        "job_id", "product_id", "destination_path", "destination_host", "submitter", "status",
        "version", "due_at", "idempotency_key", "idempotency_digest", "request_digest",
        "time_submitted", "time_staging", "time_transferring", "time_error", "time_success",
        "time_cancelled", "deadline", "copied_as", "submitter_fqans", "submitter_limited", "label",
        "retry_of",
    }
)  # fmt: skip
SETTABLE = frozenset(COLUMNS) - FIXED
FLAGS = "partial", "copy_begun", "copy_recorded", "submitter_limited", "turn_given"
PROSE = frozenset({"detailed_status", "fts_details", "stager_status"})
MICROSECONDS = 1_000_000  # in a second
TEXT_BYTES = 65_535  # the capacity of MariaDB's TEXT


@dataclass(frozen=True, kw_only=True)
class Change:
    """What an UPDATE is to set. `delay` in seconds from now; None puts the job to rest."""

    columns: Mapping[str, object]
    status: Status | None = None
    delay: float | Sentinel | None = KEEP

    def __post_init__(self) -> None:
        if unknown := self.columns.keys() - SETTABLE:
            raise TypeError(f"not columns that may be set: {', '.join(sorted(unknown))}")
        fitting = {n: fitted(value) if n in PROSE else value for n, value in self.columns.items()}
        object.__setattr__(self, "columns", fitting)

    def assignments(self) -> tuple[str, list[object]]:
        status = {} if self.status is None else {"status": self.status}
        return assignments({**status, **self.columns}, self.delay)

    def is_in(self, job: Job) -> bool:
        """Whether `job` looks as this change leaves it."""
        if self.status is not None and job.status is not self.status:
            return False
        return all(
            (found := getattr(job, name)) == value or (value is NOW and found is not None)
            for name, value in self.columns.items()
        )


LATER = "NOW(6) + INTERVAL %s MICROSECOND"  # NULL when the parameter is


def microseconds(seconds: object) -> int | None:
    """Whole microseconds, as INTERVAL wants them; None for None."""
    return None if seconds is None else round(float(seconds) * MICROSECONDS)  # type: ignore[arg-type]


def assignments(
    columns: Mapping[str, object], delay: float | Sentinel | None
) -> tuple[str, list[object]]:
    """The SET clause of a row with a due time, and its parameters; the version always grows."""
    terms, values = ["version = version + 1"], list[object]()
    if delay is not KEEP:
        terms.append(f"due_at = {LATER}")
        values.append(microseconds(delay))
    for name, value in columns.items():
        terms.append(f"{name} = NOW(6)" if value is NOW else f"{name} = %s")
        values += [] if value is NOW else [value]
    return ", ".join(terms), values


def to_job(row: Row) -> Job:
    fqans = row["submitter_fqans"]
    kinds = {
        "status": Status(row["status"]),
        "copied_as": TransferIdentity(row["copied_as"]),
        "submitter_fqans": None if fqans is None else tuple(fqans.splitlines()),
    }
    flags = {name: bool(row[name]) for name in FLAGS}
    return Job(**{**row, **kinds, **flags})


def placeholders(count: int) -> str:
    return ", ".join(["%s"] * count)


def fitted(value: object) -> object:
    """Prose from other programs must never keep a job from going on: cut, and made encodable."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "replace")[:TEXT_BYTES].decode("utf-8", "ignore")

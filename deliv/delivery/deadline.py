"""Moments as a caller writes them, the deadline of a delivery among them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from deliv.errors import InvalidRequest

LONGEST = timedelta(days=366)
FIRST = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)  # that MariaDB has a TIMESTAMP for
EXAMPLE = "2030-01-31T18:00:00Z"


def parse_deadline(text: str, now: datetime | None = None) -> datetime:
    """A moment in ISO 8601 with its offset from UTC.

    Whether it is over, the database decides, if it is one that the database can keep.
    An absolute time, not a duration: a repeated request means the same then.
    """
    deadline = parse_moment("deadline", text)
    if deadline < FIRST:
        raise InvalidRequest(f"the deadline {deadline.isoformat()} is over already")
    if deadline > (now or datetime.now(UTC)) + LONGEST:
        raise InvalidRequest(f"deadline is more than {LONGEST.days} days ahead")
    return deadline


def parse_moment(field: str, text: str) -> datetime:
    """A moment in ISO 8601 with its offset from UTC, in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        hint = " (in a form, + is written %2B)" if " " in text else ""
        raise InvalidRequest(f"{field} must be a time in ISO 8601, like {EXAMPLE}{hint}") from error
    if moment.utcoffset() is None:
        raise InvalidRequest(f"{field} must say its offset from UTC, like {EXAMPLE} does by Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequest(f"{field} is not a time that can be") from error

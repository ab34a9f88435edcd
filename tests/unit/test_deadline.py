"""Deadlines as callers write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from deliv.delivery.deadline import LONGEST, parse_deadline
from deliv.errors import InvalidRequest

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-02T18:00:00Z", datetime(2026, 3, 2, 18, tzinfo=UTC)),
        ("2026-03-02T18:00:00.250+00:00", datetime(2026, 3, 2, 18, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-03-02T18:00+02:00", datetime(2026, 3, 2, 16, tzinfo=UTC)),
        ("2026-03-02 18:00:00-03:30", datetime(2026, 3, 2, 21, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_understood(text: str, expected: datetime) -> None:
    deadline = parse_deadline(text, NOW)
    assert deadline == expected
    assert deadline.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ISO 8601"),
        ("tomorrow", "ISO 8601"),
        ("24h", "ISO 8601"),
        ("2026-02-30T00:00:00Z", "ISO 8601"),
        ("2026-03-02T18:00:00 02:00", "%2B"),  # a form that was not encoded
        ("2026-03-02T18:00:00", "offset"),
        ("2026-03-02", "offset"),
        ("0001-01-01T00:00:00+14:00", "can be"),
        ("9999-12-31T23:59:59-14:00", "can be"),
        ("0001-01-01T00:00:00Z", "over already"),
        ("1970-01-01T00:00:00.999999Z", "over already"),  # no TIMESTAMP of MariaDB's
        ("1970-01-01T05:00:00+05:00", "over already"),
        ((NOW + LONGEST + timedelta(seconds=1)).isoformat(), "days ahead"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse_deadline(text, NOW)


def test_what_is_over_is_the_databases_to_say() -> None:
    """A repeated request with an idempotency key must find its job, whenever it comes."""
    for text in ("2020-01-01T00:00:00Z", "1970-01-01T00:00:01Z"):
        assert parse_deadline(text, NOW) < NOW

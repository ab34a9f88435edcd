"""The pauses between attempts."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from deliv.config import LONGEST_PAUSE, Retry, Seconds
from deliv.model.backoff import Backoff


def test_it_doubles_up_to_the_longest() -> None:
    backoff = Backoff(0.5, 8)
    assert [backoff.pause(failures) for failures in range(6)] == [0.5, 1, 2, 4, 8, 8]
    assert Backoff(60).total(3) == 60 + 120 + 240
    assert Backoff(60).total(0) == 0


def test_where_no_failures_are_counted_it_goes_by_the_time_since_the_first() -> None:
    assert [Backoff(10, 300).after(since) for since in (0, 10, 25, 1000)] == [10, 10, 25, 300]


def test_no_configured_pause_leaves_the_range_of_a_timestamp() -> None:
    """MariaDB's TIMESTAMP ends in 2038."""
    retry = Retry(attempts=1000, backoff=Seconds(60))
    assert retry.pauses.pause(500) == LONGEST_PAUSE
    assert retry.pauses.total(3) == 60 + 120 + 240
    assert Retry(backoff=Seconds(10**9)).pauses.pause(0) == LONGEST_PAUSE


@given(st.integers(min_value=0, max_value=10**6))
def test_the_jitter_never_makes_it_vanish(failures: int) -> None:
    backoff = Backoff(0.5, 30)
    assert backoff.pause(failures) / 2 <= backoff.jittered(failures) <= backoff.pause(failures)
    assert math.isfinite(Backoff(0.5).pause(failures))


def test_jittered_pauses_differ() -> None:
    assert len({Backoff(0.5, 30).jittered(10) for _ in range(20)}) > 1

"""Token buckets: bursts, refilling, and how much is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.ops.token_buckets import TokenBuckets


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    buckets = TokenBuckets(2, 3, clock=clock)
    assert [buckets.take("alice") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("bob") == 0
    clock.now += 0.25
    assert buckets.take("alice") == pytest.approx(0.25)
    clock.now += 0.25
    assert buckets.take("alice") == 0
    assert buckets.take("alice") == pytest.approx(0.5)


def test_a_refusal_costs_nothing() -> None:
    clock = Clock()
    buckets = TokenBuckets(1, 1, clock=clock)
    buckets.take("alice")
    assert {buckets.take("alice") for _ in range(100)} == {1.0}
    clock.now += 1
    assert buckets.take("alice") == 0


def test_a_rest_fills_the_bucket_and_no_more() -> None:
    clock = Clock()
    buckets = TokenBuckets(10, 5, clock=clock)
    buckets.take("alice")
    clock.now += 3600
    assert [buckets.take("alice") == 0 for _ in range(6)] == [True] * 5 + [False]


def test_memory_is_bounded() -> None:
    buckets = TokenBuckets(1, 1, remembered=100)
    for number in range(10_000):
        buckets.take(str(number))
    assert len(buckets) == 100


def test_the_longest_away_is_forgotten() -> None:
    clock = Clock()
    buckets = TokenBuckets(0.001, 1, remembered=2, clock=clock)
    for key in ("alice", "bob", "alice", "carol"):
        buckets.take(key)
    assert buckets.take("alice") > 0
    assert buckets.take("bob") == 0


@given(
    st.floats(0.1, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), max_size=200),
)
def test_never_more_than_the_burst_and_the_rate(
    rate: float, burst: int, pauses: list[float]
) -> None:
    clock = Clock()
    buckets = TokenBuckets(rate, burst, clock=clock)
    taken = 0
    for pause in pauses:
        clock.now += pause
        taken += buckets.take("alice") == 0
    assert taken <= burst + sum(pauses) * rate + 1e-6


def test_a_debt_is_bounded_by_the_burst() -> None:
    clock = Clock()
    buckets = TokenBuckets(1, 3, clock=clock)
    buckets.spend("alice", 0.5)
    assert buckets.left("alice") == 2.5
    buckets.spend("alice", 1e9)
    assert buckets.left("alice") == -3
    assert buckets.take("alice") == 4
    clock.now += 4
    assert buckets.take("alice") == 0
    assert buckets.left("bob") == 3
    assert len(buckets) == 1

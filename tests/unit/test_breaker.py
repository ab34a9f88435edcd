"""The circuit breaker, on a clock of the test's own."""

from __future__ import annotations

import math

from deliv.gateways.breaker import Breaker, BreakerState
from deliv.model.backoff import Backoff


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(threshold=2, rest=Backoff(10, 30), clock=clock)
    breaker.failed("refused")
    breaker.failed("refused")
    return breaker


def test_closed_until_enough_failures_in_a_row() -> None:
    breaker = Breaker(threshold=2, clock=Clock())
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.enter()
    breaker.failed("refused")
    assert breaker.state is BreakerState.OPEN
    assert breaker.reason == "refused"
    assert not breaker.enter()


def test_after_the_rest_one_call_tries() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 9.9
    assert not breaker.enter()
    assert round(breaker.wait, 1) == 0.1
    clock.now += 0.2
    assert breaker.ready
    assert breaker.wait == 0.0
    assert breaker.enter()
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.enter()


def test_a_good_trial_closes() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 10
    assert breaker.enter()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.reason == ""
    breaker.failed()
    assert breaker.state is BreakerState.CLOSED


def test_a_bad_trial_rests_twice_as_long_up_to_the_longest() -> None:
    clock = Clock()
    breaker = opened(clock)
    rests = []
    for _ in range(3):
        clock.now += breaker.wait
        assert breaker.enter()
        breaker.failed("still")
        rests.append(breaker.wait)
    assert rests == [20, 30, 30]
    clock.now += 30
    assert breaker.enter()
    breaker.succeeded()
    breaker.failed()
    breaker.failed()
    assert breaker.wait == 10


def test_a_trial_that_never_reports_is_followed_by_another() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 10
    assert breaker.enter()
    clock.now += 10
    assert breaker.enter()


def test_calls_that_were_under_way_when_it_opened_do_not_prolong_the_rest() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 5
    breaker.failed("late")
    assert breaker.wait == 5


def test_how_long_nothing_was_heard() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    assert breaker.silent_for == math.inf
    breaker.succeeded()
    clock.now += 3
    breaker.failed()
    assert breaker.silent_for == 3

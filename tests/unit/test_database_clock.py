"""Which steps ahead of the database's clock are believed, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from deliv.db.clock import LONG_AGO, DatabaseClock

START = datetime(2026, 3, 1, tzinfo=UTC)
SETTLING = 600
DAY = 86_400


class World:
    """`passed`: seconds by the monotonic clock. `ahead`: of the database's clock."""

    def __init__(self, own: float = 0) -> None:
        self.passed, self.ahead = 0.0, 0.0
        self.clock = DatabaseClock(
            SETTLING, monotonic=lambda: self.passed, wall=lambda: START.timestamp() + own
        )

    def at(self, passed: float, ahead: float = 0, frozen: float = 0) -> float:
        """Read the database's clock; seconds since START that are believed."""
        self.passed, self.ahead = passed, ahead

        def read() -> datetime:
            now = START + timedelta(seconds=self.passed + self.ahead)
            self.passed += frozen
            return now

        return (self.clock.believed(read) - START).total_seconds()


def test_time_goes_on() -> None:
    world = World()
    assert [world.at(passed) for passed in (0, 1, 1000, DAY)] == [0, 1, 1000, DAY]
    assert world.clock.doubt() is None
    assert world.clock.stepped_at == LONG_AGO


def test_a_step_ahead_is_not_believed_at_first() -> None:
    world = World()
    world.at(0)
    assert [world.at(passed, ahead=DAY) for passed in (1, 2, 600)] == [1, 2, 600]
    assert world.clock.stepped_at == START + timedelta(seconds=DAY + 1)
    assert world.clock.doubt() == (
        f"its clock has stepped ahead by {DAY} s: nothing ends by it for 1 s"
    )


def test_a_step_ahead_that_stays_is_believed() -> None:
    world = World()
    world.at(0)
    world.at(1, ahead=DAY)
    assert world.at(1 + SETTLING, ahead=DAY) == 1 + SETTLING + DAY
    assert world.clock.doubt() is None
    assert world.at(SETTLING + 2, ahead=DAY) == SETTLING + 2 + DAY


def test_a_further_step_begins_the_time_again() -> None:
    world = World()
    world.at(0)
    world.at(1, ahead=3600)
    world.at(500, ahead=DAY)
    assert world.at(1 + SETTLING, ahead=DAY) == 1 + SETTLING
    assert world.at(500 + SETTLING, ahead=DAY) == 500 + SETTLING + DAY


def test_so_does_a_step_that_is_taken_back_in_part() -> None:
    world = World()
    world.at(0)
    world.at(1, ahead=DAY)
    world.at(500, ahead=3600)
    assert world.at(1 + SETTLING, ahead=3600) == 1 + SETTLING
    assert world.at(500 + SETTLING, ahead=3600) == 500 + SETTLING + 3600


def test_a_step_that_is_taken_back_is_forgotten() -> None:
    world = World()
    world.at(0)
    world.at(1, ahead=DAY)
    assert world.at(2) == 2
    assert world.clock.doubt() is None
    assert world.clock.stepped_at == LONG_AGO
    assert world.at(700, ahead=DAY) == 700


def test_so_is_one_that_was_believed() -> None:
    world = World()
    world.at(0)
    world.at(1, ahead=DAY)
    world.at(1 + SETTLING, ahead=DAY)
    assert world.at(2 + SETTLING) == 2 + SETTLING
    assert world.clock.stepped_at == LONG_AGO


@pytest.mark.parametrize("seconds", [600, DAY])
def test_a_step_back_is_believed_at_once(seconds: int) -> None:
    world = World()
    world.at(0)
    assert world.at(1, ahead=-seconds) == 1 - seconds
    assert world.clock.doubt() is None


def test_back_to_the_time_of_this_machine_is_believed_at_once() -> None:
    """It is a step all the same: leases that ran out by it are not taken over in haste."""
    world = World()
    world.at(0)
    world.at(1, ahead=-600)
    assert world.at(2) == 2
    assert world.clock.doubt() is None
    assert world.clock.stepped_at == START + timedelta(seconds=2)


def test_a_process_that_begins_goes_by_its_machine() -> None:
    assert World().at(0, ahead=DAY) == 0
    assert World(own=DAY).at(0, ahead=DAY) == DAY
    assert World(own=-3600).at(0) == -3600


def test_small_differences_add_up_without_a_doubt() -> None:
    world = World()
    for number in range(100):
        assert world.at(number * 10, ahead=number * 4) == number * 14


def test_a_process_that_was_frozen_while_it_asked_takes_no_step_for_one() -> None:
    world = World()
    world.at(0)
    assert world.at(10, frozen=300) == 10
    assert world.at(320) == 320
    assert world.clock.doubt() is None
    assert world.clock.stepped_at == LONG_AGO

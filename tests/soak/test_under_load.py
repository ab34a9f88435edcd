"""Under a steady load RabbitMQ is away for a minute, MariaDB is killed again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from support.running_stack import Stack, brought_up, until

from soak.load import ALL_WELL, Accepted, Load
from soak.under_load import beside, configure, wait_until_all_is_done
from soak.verdict import complaints

pytestmark = pytest.mark.timeout(1200)
RATE = 5.0  # jobs per second
RATE_BETWEEN_KILLS = 3.0  # what could not be submitted meanwhile comes on top
LONGEST = 900.0  # seconds; a load ends when its test has what it wants
AWAY = 60.0
KILLS = 20
# Seconds from a kill to the next start. deliv itself hides outages of up to three.
RESTARTS = (0.0, 1.5, 3.0, 4.5)


@dataclass(kw_only=True)
class Bench:
    """A stack, and all that it has ever accepted."""

    stack: Stack
    urls: list[str]
    accepted: list[Accepted] = field(default_factory=list)

    def load(self, rate: float, seed: int) -> Load:
        return Load(self.stack, self.urls, rate, seed, ALL_WELL)

    def assert_all_held(self, load: Load) -> None:
        """The soak's verdict, on what was accepted before as well."""
        wait_until_all_is_done(self.stack)
        self.accepted += load.accepted
        assert load.refused == []
        assert list(complaints(self.stack, self.accepted)) == []


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with brought_up("--instances", "2") as stack:
        yield Bench(stack=stack, urls=configure(stack))


def wait_for_more(load: Load, count: int) -> None:
    """Until so many more submissions have been answered 202."""
    wanted = len(load.accepted) + count
    until(lambda: len(load.accepted) >= wanted, f"{count} more are accepted", timeout=120)


def test_rabbitmq_is_away_for_a_minute(bench: Bench) -> None:
    """Nobody who submits notices."""
    load = bench.load(RATE, seed=1)
    with beside(lambda: load.run(LONGEST), load.stop):
        wait_for_more(load, 10)
        bench.stack.control("kill", "rabbitmq")
        before = len(load.accepted)
        threading.Event().wait(AWAY)
        meanwhile = len(load.accepted) - before
        assert "rabbitmq" in bench.stack.ready()["waiting_for"]
        bench.stack.control("start", "rabbitmq")
        wait_for_more(load, 10)
    print(f"{meanwhile} submissions were accepted while RabbitMQ was away")
    assert load.hindered == []
    assert meanwhile > AWAY * RATE / 2
    bench.assert_all_held(load)


def test_mariadb_is_killed_twenty_times(bench: Bench) -> None:
    """Who submits may have to try again; of what was answered with 202 nothing is lost."""
    load, started = bench.load(RATE_BETWEEN_KILLS, seed=2), time.monotonic()
    with beside(lambda: load.run(LONGEST), load.stop):
        for number in range(KILLS):
            wait_for_more(load, 2 + number % 6)  # each time at another moment of the work
            bench.stack.control("kill", "mariadb")
            threading.Event().wait(RESTARTS[number % len(RESTARTS)])
            bench.stack.control("start", "mariadb")
        wait_for_more(load, 10)
    print(
        f"MariaDB was killed {KILLS} times in {time.monotonic() - started:.0f} s; "
        f"{len(load.accepted)} submissions were accepted, {len(load.hindered)} tries failed"
    )
    assert load.hindered
    bench.assert_all_held(load)

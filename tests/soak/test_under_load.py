"""Under a steady load RabbitMQ is away for a minute, MariaDB is killed again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from support.running_stack import brought_up, until

from soak.load import ALL_WELL, Load
from soak.site import Site
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


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with brought_up("--instances", "2") as stack:
        yield Site(stack, configure(stack))


def wait_for_more(site: Site, count: int) -> None:
    """Until so many more submissions have been answered 202."""
    wanted = len(site.accepted) + count
    until(lambda: len(site.accepted) >= wanted, f"{count} more are accepted")


def assert_all_held(site: Site, load: Load) -> None:
    """The soak's verdict, on what was accepted before as well."""
    wait_until_all_is_done(site.stack)
    assert load.refused == []
    assert list(complaints(site.stack, site.accepted)) == []


def test_rabbitmq_is_away_for_a_minute(site: Site) -> None:
    """Nobody who submits notices."""
    load = Load(site, RATE, 1, ALL_WELL)
    with beside(lambda: load.run(LONGEST), load.stop):
        wait_for_more(site, 10)
        site.stack.command("kill", "rabbitmq")
        before = len(site.accepted)
        threading.Event().wait(AWAY)
        wait_for_more(site, 10)
        meanwhile = len(site.accepted) - before
        assert "rabbitmq" in site.stack.ready()["waiting_for"]
        site.stack.command("start", "rabbitmq")
        wait_for_more(site, 10)
    print(f"{meanwhile} submissions were accepted while RabbitMQ was away")
    assert load.hindered == []
    assert_all_held(site, load)


def test_mariadb_is_killed_twenty_times(site: Site) -> None:
    """Who submits may have to try again; of what was answered with 202 nothing is lost."""
    load, started = Load(site, RATE_BETWEEN_KILLS, 2, ALL_WELL), time.monotonic()
    before = len(site.accepted)
    with beside(lambda: load.run(LONGEST), load.stop):
        for number in range(KILLS):
            wait_for_more(site, 2 + number % 6)  # each time at another moment of the work
            site.stack.command("kill", "mariadb")
            threading.Event().wait(RESTARTS[number % len(RESTARTS)])
            site.stack.command("start", "mariadb")
        wait_for_more(site, 10)
    print(
        f"MariaDB was killed {KILLS} times in {time.monotonic() - started:.0f} s; "
        f"{len(site.accepted) - before} submissions were accepted, "
        f"{len(load.hindered)} tries failed"
    )
    assert load.hindered
    assert_all_held(site, load)

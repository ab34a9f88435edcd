"""An instance that is stopped, or stuck, loses nothing that it was working on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from deliv_testbed import ports
from support.another_instance import Instance, another_instance
from support.running_stack import Answer, Stack, Target, frozen, until
from support.service_manager import ServiceManager, managed

from deliv.failpoints import Point
from outages.conftest import INSTANCES, Pair

WATCHDOG = 12.0  # seconds, more than a busy machine keeps a healthy instance waiting
SHORT = {"sweep", "poll:fts"}
PERIOD = "deliv_periodic_last_success_timestamp_seconds"


class Third(Stack):
    """The stack as seen through a third instance."""

    def __init__(self, pair: Pair, url: str, monitoring: int) -> None:
        super().__init__(pair.directory)
        self._own = {"url": url, "monitoring_url": f"http://127.0.0.1:{monitoring}"}

    @property
    def testbed(self) -> dict[str, Any]:
        return super().testbed | self._own


def submit(stack: Stack, target: Target, product: str) -> Answer:
    fields = ("-d", f"product_id={product}", "-d", f"destination_path={target.url}")
    return stack.curl("/submitTransfer", *fields)


@contextmanager
def third_instance(pair: Pair, directory: Path, drain: str, **changes: Any) -> Iterator[Instance]:
    with another_instance(pair, directory, {"drain": drain}, **changes) as instance:
        until(lambda: '"ready"' in instance.status("/ready")[1], "it is ready")
        yield instance


def test_requests_in_flight_are_answered_before_it_ends(
    pair: Pair, target: Target, tmp_path: Path
) -> None:
    """They wait for a database that is frozen meanwhile."""
    with third_instance(pair, tmp_path, "20s") as third, ThreadPoolExecutor(4) as pool:
        stack = Third(pair, third.url, third.monitoring)
        with frozen(pair, "mariadb"):
            asked = [
                pool.submit(submit, stack, target, f"synthetic-{41_000 + n}") for n in range(4)
            ]
            until(lambda: stack.metric("deliv_http_requests_in_flight") == 4, "all are in flight")
            third.process.send_signal(signal.SIGTERM)
            until(lambda: not ports.accepts(third.port), "no connection is accepted any more")
            assert third.process.poll() is None
        answers = [answer.result() for answer in asked]
        assert third.process.wait(60) == 0
    assert {answer.status for answer in answers} == {202}
    with pair.instance(1).client() as client:
        for answer in answers:
            assert client.wait(answer.document["job_id"], timeout=400)["status"] == "SUCCESS"


def test_what_is_not_done_within_the_drain_time_is_cut_off(
    pair: Pair, target: Target, tmp_path: Path
) -> None:
    """The caller has no answer then, and repeats the call: with a key, that is one job."""
    with third_instance(pair, tmp_path, "1s") as third, ThreadPoolExecutor(1) as pool:
        stack = Third(pair, third.url, third.monitoring)
        with frozen(pair, "mariadb"):
            asked = pool.submit(submit, stack, target, "synthetic-41010")
            until(lambda: stack.metric("deliv_http_requests_in_flight") == 1, "it is in flight")
            third.process.send_signal(signal.SIGTERM)
            with pytest.raises(Exception, match="curl"):
                asked.result()
        assert third.process.wait(60) == 0


def test_its_leases_are_handed_on_at_once(pair: Pair, tmp_path: Path) -> None:
    """Not only when they run out, which would take a minute here."""
    patient = {"every": "500ms", "lease": "600s", "hold": "3s"}
    with killed(pair):
        until(lambda: not held(pair), "the leases of the killed have run out")
        with third_instance(pair, tmp_path, "5s", sweeps=patient) as third:
            until(lambda: held(pair) == SHORT, "it has the leases")
            third.process.send_signal(signal.SIGTERM)
            assert third.process.wait(60) == 0
            assert held(pair) == set()
    until(lambda: held(pair) == SHORT, "others have them")


@contextmanager
def killed(pair: Pair) -> Iterator[None]:
    """Both instances are, while the block runs; what comes after a failure finds them again."""
    for number in INSTANCES:
        pair.kill(number)
    try:
        yield
    finally:
        for number in INSTANCES:
            pair.start(number)


def held(pair: Pair) -> set[str]:
    """Which of two short leases somebody holds."""
    rows = pair.query("SELECT name FROM leases WHERE expires > NOW(6)")
    return {str(name) for (name,) in rows} & SHORT


class Service:
    """The second instance under a service manager that watches over it, with failpoints."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        settings = pair.settings(2)
        self._faults = directory / "faults"
        self._faults.mkdir()
        settings |= {"faults": str(self._faults), "audit": {"file": str(directory / "audit.log")}}
        settings["sweeps"] |= {"stuck": "2s"}
        config = directory / "deliv.yaml"
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        self.command = [sys.executable, "-m", "deliv.cli", "serve", "--config", config]

    def hang(self, point: Point) -> None:
        scratch = self._faults / f"{point}.new"
        scratch.write_text("hang 600", encoding="ascii")
        scratch.rename(self._faults / point)


@pytest.fixture
def service(pair: Pair, tmp_path: Path) -> Service:
    return Service(pair, tmp_path)


@pytest.fixture
def manager(pair: Pair, service: Service, tmp_path: Path) -> Iterator[ServiceManager]:
    """It runs alone."""
    with killed(pair), managed(service.command, tmp_path, WATCHDOG) as manager:
        until(lambda: manager.heard["READY=1"], "it says that it is ready")
        yield manager


def test_the_watchdog_hears_of_a_healthy_instance(manager: ServiceManager) -> None:
    until(lambda: manager.heard["WATCHDOG=1"] > 3, "it is fed again and again")
    assert manager.ended_by_watchdog == 0
    assert manager.stop() == 0
    assert manager.heard["STOPPING=1"] == 1


def test_the_watchdog_ends_a_loop_that_stands_still(
    pair: Pair, manager: ServiceManager, target: Target
) -> None:
    stack = pair.instance(2)
    job_id = submit(stack, target, "slow-2-synthetic-41020").document["job_id"]
    os.kill(manager.process.pid, signal.SIGSTOP)
    until(lambda: manager.heard["READY=1"] == 2, "it was ended and started again")
    assert manager.ended_by_watchdog == 1
    with stack.client() as client:
        assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"


def test_the_watchdog_ends_periodic_work_that_is_stuck(
    pair: Pair, service: Service, manager: ServiceManager, target: Target
) -> None:
    """The loop turns and requests are answered, but a sweep or a poll hangs."""
    stack = pair.instance(2)
    service.hang(Point.LEASE_TAKEN)
    job_id = submit(stack, target, "synthetic-41030").document["job_id"]
    until(lambda: manager.heard["READY=1"] == 2, "it was ended and started again")
    assert manager.ended_by_watchdog == 1
    with stack.client() as client:
        assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"

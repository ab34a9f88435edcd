"""MariaDB's clock steps back or ahead, by hand or with a failover to a host that has another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from deliv_testbed import accounts, layout
from deliv_testbed.clocks import Clock
from deliv_testbed.parts import Parts
from deliv_testbed.processes import Processes
from support.running_stack import Target, frozen, until

from outages.conftest import Pair
from outages.test_clocks import away, start

pytestmark = pytest.mark.timeout(900)
MINUTES, DAY = 600, 86_400
SIZE = 47_000


@contextmanager
def clock_of_mariadb(pair: Pair) -> Iterator[Clock]:
    """It can be set in the block, and is right again after it."""
    clock = Clock(file=pair.directory / "clock-of-mariadb")
    clock.step(0)
    where, account = layout.Layout(directory=pair.directory), accounts.unprivileged()
    plan = layout.load(where)
    assert plan is not None
    (program,) = Parts(where, plan, account).programs("mariadb")
    with away(pair, "mariadb"):
        start(Processes(where.directory, account), clock.of(program))
        try:
            until(lambda: all_ready(pair), "deliv is ready")
            yield clock
            clock.step(0)
            until(lambda: all_ready(pair), "deliv is ready")
        finally:
            pair.control("kill", "mariadb")
    until(lambda: all_ready(pair), "deliv is ready")


def all_ready(pair: Pair) -> bool:
    return all(pair.readiness(number).get("status") == "ready" for number in (1, 2))


def steps(pair: Pair, direction: str) -> int:
    """How many each or any of the instances has said."""
    event = f"the database's clock has stepped {direction}"
    return sum(line["event"] == event for number in (1, 2) for line in pair.log(number))


def owners(pair: Pair) -> set[str]:
    rows = pair.query("SELECT owner FROM leases WHERE owner <> '' AND name <> 'admission'")
    return {owner for (owner,) in rows}


def test_back_by_ten_minutes_while_jobs_wait_and_a_holder_dies(pair: Pair, target: Target) -> None:
    before = steps(pair, "back")
    with clock_of_mariadb(pair) as clock:
        pair.restart(2)
        until(lambda: len(owners(pair)) == 1, "deliv@1 has all leases")
        (dead,) = owners(pair)
        with frozen(pair, "stager"):
            with pair.instance(2).client() as client:
                job_ids = [client.submit(f"synthetic-{SIZE + n}", target.url) for n in range(3)]
            until(lambda: client_sees_staging(pair, job_ids), "the stager is asked")
            pair.kill(1)
            clock.step(-MINUTES)
        with pair.instance(2).client() as client:
            for job_id in job_ids:
                answer = client.wait(job_id, timeout=400)
                assert (answer["status"], answer["attempt"]) == ("SUCCESS", 1), answer
        until(lambda: dead not in owners(pair), "the leases are taken over")
        assert steps(pair, "back") == before + 1
        pair.start(1)


def client_sees_staging(pair: Pair, job_ids: list[str]) -> bool:
    sql = "SELECT COUNT(*) FROM jobs WHERE status = 'STAGING' AND job_id IN (%s, %s, %s)"
    return pair.query(sql, *job_ids) == [(len(job_ids),)]


def test_ahead_by_a_day_nothing_ends(pair: Pair, target: Target) -> None:
    deadline = datetime.now(UTC) + timedelta(hours=1)
    with clock_of_mariadb(pair) as clock:
        before = steps(pair, "ahead")
        with delegated(pair), frozen(pair, "stager"):
            with pair.instance(1).client() as client:
                job_id = client.submit(f"synthetic-{SIZE}", target.url, deadline=deadline)
            clock.step(DAY)
            for number in (1, 2):
                until(lambda n=number: "stepped ahead" in detail(pair, n), "it says so")
            for name in ("deadlines", "delegations", "retention"):
                until_done(pair, name)
            assert pair.query("SELECT dn FROM delegations WHERE proxy_key = 'key'")
        with pair.instance(1).client() as client:
            answer = client.wait(job_id, timeout=400)
        assert (answer["status"], answer["attempt"]) == ("SUCCESS", 1), answer
        assert target.holds_synthetic(SIZE)
        assert steps(pair, "ahead") == before + 2
        clock.step(0)
        for number in (1, 2):
            until(lambda n=number: "stepped" not in detail(pair, n), "all is well again")


def detail(pair: Pair, number: int) -> str:
    return str(pair.readiness(number).get("dependencies", {}).get("mariadb", {}).get("detail"))


@contextmanager
def delegated(pair: Pair) -> Iterator[None]:
    """There is a credential of somebody's, for another hour."""
    pair.query(
        "INSERT INTO delegations (delegation_id, dn, proxy, proxy_key, expires)"
        " VALUES ('somebody', '/CN=somebody', 'proxy', 'key', NOW(6) + INTERVAL 1 HOUR)"
    )
    try:
        yield
    finally:
        pair.query("DELETE FROM delegations WHERE delegation_id = 'somebody'")


def until_done(pair: Pair, name: str) -> None:
    """An instance has done this shared work from now on."""
    began = time.time()

    def done() -> bool:
        return any(last_success(pair, number, name) > began for number in (1, 2))

    until(done, f"{name} runs")


def last_success(pair: Pair, number: int, name: str) -> float:
    with suppress(StopIteration):
        return pair.instance(number).metric(
            f'deliv_periodic_last_success_timestamp_seconds{{name="{name}"}}'
        )
    return 0.0

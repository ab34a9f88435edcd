"""An instance that was frozen in the middle of a step wakes up, and does no harm."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from support.resting import resting
from support.running_stack import Target, until

from deliv.failpoints import Point
from outages.conftest import Pair

SIZES = itertools.count(30_000)
OTHER_NAME = "localhost"  # of the destination's host
COLUMNS = ("status", "attempt", "time_released", "due_at", "stager_callback", "fts_jobid")
DELIVERED = ["SUBMITTED", "STAGING", "STAGING", "TRANSFERRING", "SUCCESS"]
# Each can be reached while the instance is frozen at those before it.
POINTS = [
    Point.STEP_TAKEN,
    Point.CODE_STORED,
    Point.STAGER_ASKED,
    Point.TRANSFER_ASSIGNED,
    Point.TRANSFER_POSTED,
    Point.CLOSING,
    Point.COPY_RELEASED,
    Point.OUTCOME_SEEN,
    Point.JOB_ADMITTED,
]
CALLS = [Point.CODE_STORED, Point.TRANSFER_ASSIGNED]  # what comes next is heard elsewhere


class Freezing:
    """Freezes the first instance where it reaches failpoints, and lets it go on."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._thawed = datetime.now(UTC)

    def reach(self, point: Point, target: Target, product: str) -> str:
        """Have a job delivered, and return when the instance has come to the point, held there."""
        reached = self._hold(point)
        with self._pair.instance(1).client() as client:
            job_id = str(client.submit(product, target.url))
        until(reached, f"{point} is reached")
        if point is Point.STAGER_ASKED:  # the report would be lost with who is frozen in taking it
            sql = "SELECT 1 FROM stagings WHERE staging_id = %s AND staged IS NOT NULL"
            until(lambda: self._pair.query(sql, job_id), "the stager has reported")
        return job_id

    def reach_lease(self) -> None:
        until(self._hold(Point.LEASE_TAKEN), "a lease is taken")

    def _hold(self, point: Point) -> Callable[[], bool]:
        """Whether the instance has come to the point by now, where it is held."""
        file = self._pair.faults / point
        scratch = file.with_name(f"{point}.new")
        scratch.write_text("hold", encoding="ascii")
        scratch.rename(file)
        return lambda: not file.exists()

    def freeze(self) -> None:
        """The other instance goes on alone."""
        self._pair.control("freeze", "deliv@1")
        self._pair.start(2)

    def thaw(self) -> None:
        self._thawed = datetime.now(UTC)
        let_go(self._pair)
        self._pair.control("thaw", "deliv@1")
        until(self._works_again, "the first instance works again")

    def lost(self, job_id: str) -> str | None:
        """What the instance said since then of a job that went on without it."""
        for line in self._pair.log(1):
            if line["event"] == "job moved on meanwhile" and line.get("job_id") == job_id:
                if datetime.fromisoformat(line["timestamp"]) > self._thawed:
                    return str(line["reason"])
        return None

    def _works_again(self) -> bool:
        """Whether its periodic work has gone round since."""
        name = "deliv_periodic_last_success_timestamp_seconds"
        one = self._pair.instance(1)
        # Of what every instance does: the leases may have gone to the other one.
        return all(
            one.metric(f'{name}{{name="{work}"}}') > self._thawed.timestamp()
            for work in ("counts", "relay")
        )


def let_go(pair: Pair) -> None:
    """Whoever is held at a failpoint goes on."""
    for spent in pair.faults.glob("*.spent"):
        spent.unlink()


@pytest.fixture
def alone(pair: Pair) -> Iterator[Pair]:
    """Only the first instance runs; afterwards both do, as they were configured."""
    configuration = pair.config(1).read_text(encoding="utf-8")
    pair.kill(2)
    yield pair
    let_go(pair)
    pair.control("thaw", "deliv@1")  # where the test failed before it did so
    if pair.config(1).read_text(encoding="utf-8") != configuration:
        pair.config(1).write_text(configuration, encoding="utf-8")
        pair.restart(1)
    if not pair.readiness(2):
        pair.start(2)


def row(pair: Pair, job_id: str) -> dict[str, Any]:
    sql = f"SELECT {', '.join(COLUMNS)} FROM jobs WHERE job_id = %s"  # noqa: S608 - constants
    (values,) = pair.query(sql, job_id)
    return dict(zip(COLUMNS, values, strict=True))


def closed(pair: Pair, job_id: str) -> dict[str, Any] | None:
    """The job once it has ended and nothing is left to do for it."""
    job = row(pair, job_id)
    return job if job["time_released"] is not None and job["due_at"] is None else None


def events(pair: Pair, job_id: str) -> list[str]:
    rows = pair.query("SELECT status FROM job_events WHERE job_id = %s ORDER BY event_id", job_id)
    return [str(status) for (status,) in rows]


def assert_delivered_once(pair: Pair, job_id: str, target: Target, size: int) -> None:
    assert until(lambda: closed(pair, job_id), "it is closed again")["status"] == "SUCCESS"
    assert events(pair, job_id) == DELIVERED
    assert target.holds_synthetic(size)
    file = target.directory / f"synthetic-{size}"
    assert until(lambda: pair.times_written(file), "the server logs the copy") == 1
    # of a call that came late the job knows nothing: its staging gives the copy back
    until(lambda: not pair.staged_copy(job_id).exists(), "no copy is left at the stager")


def test_whoever_wakes_up_in_a_delivery_changes_nothing(alone: Pair, target: Target) -> None:
    """It is frozen at every point, in the delivery of another job each; others end them all."""
    jobs, freezing = {}, too_late(alone)
    for point, size in zip(POINTS, SIZES, strict=False):
        jobs[size] = freezing.reach(point, target, f"synthetic-{size}")
    size = next(SIZES)
    there = replace(target, url=target.url.replace("127.0.0.1", OTHER_NAME))
    with resting(alone.config(2), OTHER_NAME):  # the job does not go on without its messages
        jobs[size] = freezing.reach(Point.OUTBOX_TAKEN, there, f"synthetic-{size}")
        freezing.reach_lease()
        freezing.freeze()
    for job_id in jobs.values():
        take_up(alone, job_id)
    until(lambda: all(closed(alone, job_id) for job_id in jobs.values()), "all are delivered")
    freezing.thaw()
    for size, job_id in jobs.items():
        assert_delivered_once(alone, job_id, target, size)


def released(pair: Pair, job_id: str) -> bool:
    sql = "SELECT state = 'RELEASED' AND due_at IS NULL FROM stagings WHERE staging_id = %s"
    return bool(pair.query(sql, job_id) == [(1,)])


def too_late(pair: Pair) -> Freezing:
    """The first instance will not see that it is late: as if frozen after its look at the clock."""
    pair.configure(1, sweeps={"hold": "3600s"})
    pair.restart(1)
    return Freezing(pair)


def take_up(pair: Pair, job_id: str) -> None:
    """The first instance's claims on a job, on its staging and on its messages are over."""
    for table, key, column in (
        ("stagings", "staging_id", "due_at"),
        ("jobs", "job_id", "due_at"),
        ("outbox", "job_id", "held_until"),
    ):
        pair.query(
            f"UPDATE {table} SET {column} = NOW(6) "  # noqa: S608 - constants
            f"WHERE {key} = %s AND {column} > NOW(6) + INTERVAL 9 MINUTE",
            job_id,
        )


def test_who_was_away_for_too_long_does_not_call_out(alone: Pair, target: Target) -> None:
    freezing = Freezing(alone)
    size = next(SIZES)
    job_id = freezing.reach(Point.CODE_STORED, target, f"synthetic-{size}")
    freezing.freeze()
    until(lambda: closed(alone, job_id), "the other instance does it all")
    freezing.thaw()
    assert "too late" in until(lambda: freezing.lost(job_id), "it has seen that it came too late")
    assert_delivered_once(alone, job_id, target, size)


def test_a_call_that_comes_after_the_end_is_made_up_for(alone: Pair, target: Target) -> None:
    """The stager stages once more for a job that was withdrawn: that copy is given back too.

    FTS hears of a transfer for the first time: nothing is copied.
    """
    freezing = too_late(alone)
    jobs = [freezing.reach(point, target, f"synthetic-{next(SIZES)}") for point in CALLS]
    freezing.freeze()
    for job_id in jobs:
        answer = alone.instance(2).curl("/cancelTransfer", "--data", f"job_id={job_id}")
        assert answer.status in {200, 202}
    until(lambda: all(closed(alone, job_id) for job_id in jobs), "the other one has closed them")
    freezing.thaw()
    for job_id in jobs:
        until(lambda: freezing.lost(job_id), "it has seen that it came too late")  # noqa: B023 - runs now
        assert until(lambda: closed(alone, job_id), "closed again")["status"] == "CANCELLED"  # noqa: B023
        until(lambda: released(alone, job_id), "what came too late is given back")  # noqa: B023
        assert not alone.staged_copy(job_id).exists()
    assert not target.directory.exists()


def test_a_code_that_comes_late_does_not_keep_the_next_one_from_counting(
    alone: Pair, target: Target
) -> None:
    """The stager, slow, hears an outdated code last: it is asked once more."""
    size, freezing = next(SIZES), too_late(alone)
    job_id = freezing.reach(Point.CODE_STORED, target, f"slow-15-synthetic-{size}")
    outdated = row(alone, job_id)["stager_callback"]
    freezing.freeze()
    take_up(alone, job_id)
    until(lambda: row(alone, job_id)["stager_callback"] != outdated, "the other one has asked")
    freezing.thaw()
    until(lambda: freezing.lost(job_id), "it has seen that it came too late")
    until(lambda: closed(alone, job_id), "the copy is reported with a code that counts")
    assert_delivered_once(alone, job_id, target, size)

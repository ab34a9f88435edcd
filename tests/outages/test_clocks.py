"""A machine's clock is an hour ahead, or behind: FTS's, or that of an instance of deliv."""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from deliv_testbed import accounts, layout
from deliv_testbed.clocks import Clock
from deliv_testbed.errors import TestbedError
from deliv_testbed.fts.settings import FtsSettings
from deliv_testbed.parts import Parts
from deliv_testbed.processes import Processes, Program
from deliv_testbed.settings import read
from support.running_stack import Target, until

from outages.conftest import Pair

HOUR = 3600
SIZE = 47_000
STARTS = 3  # libfaketime 0.9.10 can hang a program with threads as it starts: seen once in 30


@contextmanager
def away(pair: Pair, part: str) -> Iterator[None]:
    """A part of the stack is not there in its own time; it comes back with the settings of then."""
    pair.control("kill", part)
    try:
        yield
    finally:
        pair.control("start", part)


def ahead(pair: Pair, seconds: int) -> Clock:
    clock = Clock(file=pair.directory / "another-clock")
    clock.step(seconds)
    return clock


@contextmanager
def at_another_time(pair: Pair, part: str, clock: Clock) -> Iterator[None]:
    """The part runs, by this clock."""
    where, account = layout.Layout(directory=pair.directory), accounts.unprivileged()
    plan = layout.load(where)
    assert plan is not None
    (program,) = Parts(where, plan, account).programs(part)
    try:
        start(Processes(where.directory, account), clock.of(program))
        yield
    finally:
        pair.control("kill", part)


def start(processes: Processes, program: Program) -> None:
    for tries_left in reversed(range(STARTS)):
        try:
            processes.start(program)
            return
        except TestbedError:
            if not tries_left:
                raise
            processes.kill(program.name)


@contextmanager
def clock_of_fts(pair: Pair, seconds: int) -> Iterator[None]:
    """The server and the processes that copy for it live at another time."""
    clock = ahead(pair, seconds)
    with (
        away(pair, "fts"),
        copying_at_another_time(pair, clock),
        at_another_time(pair, "fts", clock),
    ):
        yield


@contextmanager
def clock_of_deliv(pair: Pair, seconds: int) -> Iterator[None]:
    """Of deliv@2; deliv@1 is away."""
    with (
        stopped(pair, 1),
        away(pair, "deliv@2"),
        forgiving_tokens(pair),
        at_another_time(pair, "deliv@2", ahead(pair, seconds)),
    ):
        yield


@contextmanager
def stopped(pair: Pair, number: int) -> Iterator[None]:
    pair.stop(f"deliv@{number}")
    try:
        yield
    finally:
        pair.start(number)


@contextmanager
def copying_at_another_time(pair: Pair, clock: Clock) -> Iterator[None]:
    where = layout.Layout(directory=pair.directory)
    file = where.settings("fts")
    text = file.read_text(encoding="utf-8")
    python = where.directory / "python-at-another-time"
    command = shlex.join([*clock.command, str(read(file, FtsSettings).python)])
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o755)
    file.write_text(json.dumps({**json.loads(text), "python": str(python)}))
    try:
        yield
    finally:
        file.write_text(text, encoding="utf-8")


@contextmanager
def forgiving_tokens(pair: Pair) -> Iterator[None]:
    """A token of the stager's is rightly refused when it seems to be from another time."""
    file = pair.config(2)
    before = file.read_text(encoding="utf-8")
    callback = pair.settings(2)["stager"]["callback"]
    token = {**callback["token"], "clock_skew": "2h"}
    pair.configure(2, stager={"callback": {**callback, "token": token}})
    try:
        yield
    finally:
        file.write_text(before, encoding="utf-8")


def forget_delegations(pair: Pair) -> None:
    """Those that FTS copies with, too."""
    for proxy in (pair.directory / "fts" / "proxies").glob("*.pem"):
        proxy.unlink()
    with closing(sqlite3.connect(pair.directory / "fts" / "fts.sqlite")) as database, database:
        database.execute("DELETE FROM credentials")


@pytest.mark.parametrize("hours", [1, -1])
def test_of_fts(pair: Pair, target: Target, hours: int) -> None:
    """With a delegation made under that clock, which counts at once."""
    with clock_of_fts(pair, hours * HOUR):
        forget_delegations(pair)
        with pair.instance(1).client() as client:
            job_id = client.submit(f"synthetic-{SIZE}", target.url)
            answer = client.wait(job_id, timeout=400)
        assert (answer["status"], answer["attempt"]) == ("SUCCESS", 1), answer
        assert target.holds_synthetic(SIZE)
        assert hours_ahead(pair, job_id) == hours
    until(lambda: pair.readiness(1)["status"] == "ready", "all is well again")


@pytest.mark.parametrize("hours", [1, -1])
def test_of_deliv(pair: Pair, target: Target, hours: int) -> None:
    """How long a job waits for the stager is by the database's clock: it is not timed out."""
    with clock_of_deliv(pair, hours * HOUR):
        with pair.instance(2).client() as client:
            job_id = client.submit(f"slow-2-synthetic-{SIZE}", target.url)
            answer = client.wait(job_id, timeout=400)
        assert (answer["status"], answer["attempt"]) == ("SUCCESS", 1), answer
        assert target.holds_synthetic(SIZE)


def hours_ahead(pair: Pair, job_id: str) -> int:
    """How far FTS's clock was ahead of MariaDB's when it was given the job."""
    ((fts_jobid, posted),) = pair.query(
        "SELECT fts_jobid, UNIX_TIMESTAMP(fts_posted) FROM jobs WHERE job_id = %s", job_id
    )
    with closing(sqlite3.connect(pair.directory / "fts" / "fts.sqlite")) as database:
        sql = "SELECT CAST(strftime('%s', submit_time) AS INTEGER) FROM jobs WHERE job_id = ?"
        ((submitted,),) = database.execute(sql, (fts_jobid,)).fetchall()
    return round((submitted - float(posted)) / HOUR)

"""Outages longer than any back-off, from outside: no job fails, and all arrive.

Times are scaled by configuration: a destination is tried again after 2 s to 10 s in place of a
minute to half an hour, and staged copies are given back after 10 s.
"""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from deliv_testbed import ports
from support.running_stack import Stack, Target, brought_up, until

from deliv.client import Client

pytestmark = [pytest.mark.own_stack, pytest.mark.timeout(1500)]

RESTS = {"after": 3, "first_pause": "2s", "longest_pause": "10s", "keep_staged": "10s"}
TIMES = {"every": "1s", "lease": "5s", "hold": "30s", "ask_again": "1s"}
JOBS = 200
SOME = 10
OUT = 40  # seconds, several times the longest pause
UNTIL = 900.0


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    with brought_up("--without", "deliv") as stack:
        config = stack.directory / "deliv.yaml"
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        settings |= {"rests": RESTS, "sweeps": TIMES, "limits": {"patience_new": "1h"}}
        settings["stager"] |= {"timeout": "600s"}
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        stack.control("start", "deliv@1")
        until(lambda: stack.ready().get("status") == "ready", "deliv is ready")
        yield stack


class Way:
    """Another port and name of the destination's server, which can be closed."""

    def __init__(self, target: Target) -> None:
        place = urlsplit(target.url)
        self._server = (place.hostname, place.port)
        (self._port,) = ports.choose(1)
        self._listener: socket.socket | None = None
        self.url = f"gsiftp://localhost:{self._port}{place.path}-by-another-way"
        self.directory = Path(f"{target.directory}-by-another-way")

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        assert self._listener
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_connect, args=(caller, self._server), daemon=True).start()


def _connect(caller: socket.socket, address: tuple[str | None, int | None]) -> None:
    """What is said on a connection passes both ways until it is closed."""
    with caller, socket.create_connection(address) as server:
        back = threading.Thread(target=_pass_on, args=(server, caller), daemon=True)
        back.start()
        _pass_on(caller, server)
        back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def submitted(client: Client, url: str, first: int, count: int, **more: str) -> list[str]:
    """Jobs of products of different names; their ids."""
    items = [
        {"product_id": f"synthetic-{size}", "destination_path": url, **more}
        for size in range(first, first + count)
    ]
    outcomes = client.submit_many(items)
    assert all(outcome["code"] == 202 for outcome in outcomes), outcomes
    return [outcome["job_id"] for outcome in outcomes]


def statuses(stack: Stack, job_ids: list[str]) -> Counter[str]:
    marks = ", ".join(["%s"] * len(job_ids))
    sql = f"SELECT status, COUNT(*) FROM jobs WHERE job_id IN ({marks}) GROUP BY status"  # noqa: S608
    return Counter(dict(stack.query(sql, *job_ids)))


def all_delivered(stack: Stack, job_ids: list[str]) -> None:
    """Returns when they are; none of them may have failed."""

    def seen() -> bool:
        found = statuses(stack, job_ids)
        assert found["ERROR"] == found["CANCELLED"] == 0, failures(stack)
        return found["SUCCESS"] == len(job_ids)

    until(seen, "all are delivered", timeout=UNTIL)


def failures(stack: Stack) -> list[tuple[Any, ...]]:
    return stack.query("SELECT job_id, detailed_status FROM jobs WHERE status = 'ERROR'")


def tried(stack: Stack, url: str) -> int:
    """How often FTS was asked to copy to a directory."""
    with closing(sqlite3.connect(f"file:{stack.directory}/fts/fts.sqlite?mode=ro", uri=True)) as db:
        sql = "SELECT COUNT(*) FROM files WHERE dest_surl LIKE ?"
        ((count,),) = db.execute(sql, (f"{url}/%",))
    return int(count)


def resting(stack: Stack) -> list[tuple[Any, ...]]:
    return stack.query("SELECT cause, place, tries FROM rests WHERE since IS NOT NULL")


def staged_for(stack: Stack, job_ids: list[str]) -> int:
    """How often the stager was asked for a product of these."""
    marks = ", ".join(["%s"] * len(job_ids))
    sql = f"""
    SELECT COUNT(*) FROM job_events WHERE status = 'STAGING' AND staged AND job_id IN ({marks})
    """  # noqa: S608
    return int(stack.query(sql, *job_ids)[0][0])


@contextmanager
def clean(stack: Stack) -> Iterator[None]:
    """Behind it all the data fits together."""
    yield
    command = [sys.executable, "-m", "deliv.cli", "check", "--config", stack.testbed["config"]]
    found: list[str] = []

    def nothing_found() -> bool:
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        found[:] = [done.stdout + done.stderr]
        return done.returncode == 0

    try:
        until(nothing_found, "deliv check is clean", timeout=300)
    finally:
        print(*found)


def test_two_destinations_one_of_them_dead_for_a_while(own: Stack) -> None:
    target = own.target()
    way = Way(target)
    half = JOBS // 2
    with clean(own), own.client() as client:
        way.open()
        all_delivered(own, submitted(client, way.url, 5000, 1))  # so that it is known
        way.close()
        dead = submitted(client, way.url, 10_000, half)
        alive = submitted(client, target.url, 20_000, half)
        until(lambda: resting(own), "the dead one rests", timeout=UNTIL)
        all_delivered(own, alive)
        began, staged = tried(own, way.url), staged_for(own, dead)
        until(lambda: resting(own)[0][2] >= 3, "it was tried some times", timeout=UNTIL)
        assert statuses(own, dead)["ERROR"] == 0, failures(own)
        trials = resting(own)[0][2]
        assert tried(own, way.url) - began <= trials + 1
        assert staged_for(own, dead) - staged <= trials + 1
        waiting = own.curl(f"/transferStatus?job_id={dead[-1]}").document
        assert waiting["waiting_for"] == "destination"
        assert "can't be reached" in waiting["detailed_status"]
        way.open()
        all_delivered(own, dead)
    assert len(list(way.directory.iterdir())) == half + 1
    assert resting(own) == []
    way.close()


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "tmpfs", directory]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True, timeout=30)


def test_a_full_disk_that_is_emptied(own: Stack) -> None:
    target, other = own.target(), own.target()
    with clean(own), small_disk(target.directory), own.client() as client:
        filler = target.directory / "filler"
        with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        waiting = submitted(client, target.url, 30_000, SOME)
        until(lambda: resting(own), "the directory rests", timeout=UNTIL)
        assert resting(own)[0][:2] == ("space", target.url)
        all_delivered(own, submitted(client, other.url, 31_000, SOME))
        filler.unlink()
        all_delivered(own, waiting)
        assert target.names() == {f"synthetic-{size}" for size in range(30_000, 30_000 + SOME)}


@pytest.mark.parametrize("part", ["fts", "stager"])
def test_a_part_that_is_out(own: Stack, part: str) -> None:
    target = own.target()
    with clean(own), own.client() as client:
        own.control("kill", part)
        waiting = submitted(client, target.url, 40_000, SOME)
        column = {"fts": "FTS", "stager": "archive"}[part]
        sql = "SELECT COUNT(*) FROM jobs WHERE waiting_for = %s"
        until(lambda: own.query(sql, column)[0][0] >= SOME, f"they wait for {part}", timeout=UNTIL)
        threading.Event().wait(OUT)
        assert statuses(own, waiting)["ERROR"] == 0, failures(own)
        own.control("start", part)
        all_delivered(own, waiting)


def test_a_deadline_that_passes_meanwhile_ends_its_job(own: Stack) -> None:
    target = own.target()
    way = Way(target)
    with clean(own), own.client() as client:
        way.open()
        all_delivered(own, submitted(client, way.url, 5000, 1))
        way.close()
        patient = submitted(client, way.url, 50_000, SOME)
        until(lambda: resting(own), "it rests", timeout=UNTIL)
        soon = (datetime.now(UTC) + timedelta(seconds=10)).isoformat(timespec="seconds")
        hurried = submitted(client, way.url, 51_000, SOME, deadline=soon)
        until(lambda: statuses(own, hurried)["ERROR"] == SOME, "they have ended", timeout=UNTIL)
        sql = "SELECT DISTINCT error_class FROM jobs WHERE status = 'ERROR'"
        assert own.query(sql) == [("deadline",)]
        way.open()
        until(lambda: statuses(own, patient)["SUCCESS"] == SOME, "the others arrive", UNTIL)
    way.close()


def test_what_operators_have_rest_goes_on_when_they_say_so(own: Stack) -> None:
    target = own.target()
    queue = [sys.executable, "-m", "deliv.cli", "queue", "--config", own.testbed["config"]]

    def run(*words: str) -> str:
        done = subprocess.run(
            [*queue, *words], capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("rest", "127.0.0.1", "--reason", "a new disk")
    with clean(own), own.client() as client:
        waiting = submitted(client, target.url, 60_000, 2)
        shown = own.curl(f"/transferStatus?job_id={waiting[0]}").document
        assert (shown["status"], shown["waiting_for"]) == ("SUBMITTED", "operators")
        assert "a new disk" in shown["detailed_status"]
        (listed,) = own.curl("/transfers?limit=1&product_id=" + shown["product_id"]).document[
            "transfers"
        ]
        assert (listed.items() <= shown.items(), listed["waiting_for"]) == (True, "operators")
        assert "127.0.0.1" in run("list")
        run("resume", "127.0.0.1")
        all_delivered(own, waiting)
    assert "rests: 127.0.0.1 " not in run("list")

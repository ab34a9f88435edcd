"""MariaDB refuses: callers hear so at once, nothing is half done, and it goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
from deliv_testbed import layout
from pymysql.cursors import Cursor
from support.another_instance import another_instance
from support.running_stack import Answer, Stack, Target, frozen, until
from support.small_disk import on_small_disk

from outages.conftest import Pair

PATIENCE = 120


@contextmanager
def administrator(pair: Pair) -> Iterator[Cursor]:
    """Root's connection; the server keeps one for it when there are too many."""
    place = pair.testbed["database"]
    password = layout.Layout(directory=pair.directory).secrets / "root"
    connection = pymysql.connect(
        host=place["host"],
        port=place["port"],
        user="root",
        password=password.read_text(encoding="ascii"),
        database=place["name"],
        autocommit=True,
    )
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@contextmanager
def variable(pair: Pair, name: str, value: int) -> Iterator[Cursor]:
    """A variable of the server's, for the time of the block."""
    with administrator(pair) as cursor:
        cursor.execute(f"SELECT @@{name}")
        (before,) = cursor.fetchone() or ()
        cursor.execute(f"SET GLOBAL {name} = {value}")
        try:
            yield cursor
        finally:
            cursor.execute(f"SET GLOBAL {name} = {before}")


def submit(stack: Stack, target: Target, product: str, place: str = "") -> Answer:
    fields = ("-d", f"product_id={product}", "-d", f"destination_path={target.url}{place}")
    return stack.curl("/submitTransfer", *fields)


def assert_unavailable(answer: Answer) -> None:
    assert answer.status == 503, answer
    assert answer.document["job_id"] is None
    assert "nothing was changed: try again" in answer.document["msg"]
    assert int(answer.headers["retry-after"]) > 0


def said_of_mariadb(pair: Pair) -> str:
    report = pair.readiness(1)
    detail: str = report["dependencies"]["mariadb"]["detail"]
    return detail if report["status"] == "unavailable" else ""


def assert_delivered(pair: Pair, job_ids: list[str]) -> None:
    with pair.instance(1).client() as client:
        for job_id in job_ids:
            assert client.wait(job_id, timeout=PATIENCE)["status"] == "SUCCESS"


def accepted(stack: Stack, target: Target, product: str) -> str:
    """Submit until it is taken, as a caller does who heeds Retry-After."""
    answer = until(lambda: (a := submit(stack, target, product)).status == 202 and a, "it is taken")
    return str(answer.document["job_id"])


def test_a_server_that_became_read_only(pair: Pair, target: Target) -> None:
    """As after a failover. What was under way goes on when the server takes changes again."""
    one = pair.instance(1)
    jobs = [accepted(one, target, "slow-3-synthetic-42000")]
    with variable(pair, "read_only", 1):
        assert_unavailable(submit(one, target, "synthetic-42001"))
        until(lambda: "read-only" in said_of_mariadb(pair), "readiness says why")
        assert one.curl(f"/transferStatus?job_id={jobs[0]}").status == 200
    jobs.append(accepted(one, target, "synthetic-42001"))
    assert_delivered(pair, jobs)
    until(lambda: pair.readiness(1)["status"] == "ready", "it is ready again")


def test_too_many_connections(pair: Pair, target: Target) -> None:
    one = pair.instance(1)
    job_id = accepted(one, target, "slow-3-synthetic-42010")
    with variable(pair, "max_connections", 10) as cursor, taken_connections(pair, cursor):
        assert_unavailable(submit(one, target, "synthetic-42011"))
        until(lambda: "too many connections" in said_of_mariadb(pair), "readiness says why")
    assert_delivered(pair, [job_id, accepted(one, target, "synthetic-42011")])


@contextmanager
def taken_connections(pair: Pair, cursor: Cursor) -> Iterator[None]:
    """Of the server's ten connections one is root's, and all others somebody else's."""
    place = pair.testbed["database"]
    account = {name: place[name] for name in ("host", "port", "user", "password")}
    held: list[Any] = []
    try:
        with frozen(pair, "deliv@1"), frozen(pair, "deliv@2"):
            cursor.execute("KILL USER deliv")
            until(lambda: connections(cursor) == 1, "only root is there")
            held += [pymysql.connect(**account, ssl_disabled=True) for _ in range(9)]
        yield
    finally:
        for connection in held:
            connection.close()


def connections(cursor: Cursor) -> int:
    cursor.execute("SHOW STATUS LIKE 'Threads_connected'")
    return int((cursor.fetchone() or ("", 0))[1])


def test_a_row_that_is_locked_for_long(pair: Pair, target: Target, tmp_path: Path) -> None:
    """A deadlock is solved unseen; a lock that stays is reported, and the change is not made."""
    job_id = accepted(pair.instance(1), target, "silent-synthetic-42020")
    database = pair.settings(1)["database"] | {"statement_timeout": "3s"}
    with another_instance(pair, tmp_path, database=database) as third:
        stack = Third(pair, third.url)
        cancel = ("/cancelTransfer", "--data", f"job_id={job_id}")
        with administrator(pair) as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT job_id FROM jobs WHERE job_id = %s FOR UPDATE", (job_id,))
            answer = stack.curl(*cancel)
            assert (answer.status, answer.document["error"]) == (503, True)
            assert int(answer.headers["retry-after"]) > 0
            cursor.execute("ROLLBACK")
        assert stack.curl(f"/transferStatus?job_id={job_id}").document["status"] == "STAGING"
        assert stack.curl(*cancel).status == 200


class Third(Stack):
    """The stack as seen through a third instance."""

    def __init__(self, pair: Pair, url: str) -> None:
        super().__init__(pair.directory)
        self._url = url

    @property
    def testbed(self) -> dict[str, Any]:
        return super().testbed | {"url": self._url}


def test_a_full_disk(pair: Pair, target: Target) -> None:
    """Of what was answered with 202 nothing is lost; with room again it goes on by itself."""
    one, data = pair.instance(1), pair.directory / "mariadb" / "data"
    with on_small_disk(pair, "mariadb", data, "220m") as disk:
        until(lambda: pair.readiness(1).get("status") == "ready", "it is ready")
        jobs = [accepted(one, target, "slow-3-synthetic-42030")]
        disk.fill(leave=2**20)
        refused = until(lambda: refusal(one, target), "the disk is full", PATIENCE)
        assert_unavailable(refused)
        until(lambda: "full" in said_of_mariadb(pair), "readiness says why")
        assert one.curl(f"/transferStatus?job_id={jobs[0]}").status == 200
        disk.clear()
        jobs.append(accepted(one, target, "synthetic-42031"))
        assert_delivered(pair, jobs)
        assert_all_taken_are_there(pair, target)


def test_a_server_that_holds_back_every_commit(pair: Pair, target: Target) -> None:
    """As on a full disk with a binary log: it reads, and what changes anything hangs."""
    job_id = accepted(pair.instance(1), target, "slow-3-synthetic-42040")
    with administrator(pair) as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        until(lambda: "no answer within" in said_of_mariadb(pair), "readiness says so")
        assert pair.readiness(1)["status"] == "unavailable"
        cursor.execute("UNLOCK TABLES")
    until(lambda: pair.readiness(1)["status"] == "ready", "it is ready again")
    assert_delivered(pair, [job_id])


def refusal(stack: Stack, target: Target) -> Answer | None:
    """What is answered when a large submission is not taken any more."""
    answer = submit(stack, target, f"fail-{'x' * 900}", f"/{'y' * 800}")
    if answer.status == 202:
        TAKEN.append(answer.document["job_id"])
        return None
    return answer


TAKEN: list[str] = []


def assert_all_taken_are_there(pair: Pair, target: Target) -> None:
    rows = pair.query("SELECT job_id FROM jobs WHERE destination_path LIKE %s", f"{target.url}/y%")
    assert {job_id for (job_id,) in rows} == set(TAKEN)

"""Transactions on a real MariaDB: sessions, retries, limits, and what callers get."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support.private_mariadb import Server

from deliv import config
from deliv.db import database as db
from deliv.db.database import (
    CALLER,
    Connection,
    Contention,
    Database,
    Duplicate,
    RejectedByTrigger,
    StatementFailed,
    connect,
)
from deliv.errors import DatabaseUnavailable, Saturated

T = TypeVar("T")

PATIENCE = 60.0  # seconds, for what is done in moments
CREATE = (
    "CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(20) UNIQUE, c TIMESTAMP(6) NULL) ENGINE=InnoDB"
)


@pytest.fixture
def table(server: Server) -> Server:
    server.run(CREATE, "INSERT INTO t (a) VALUES (1), (2), (3)")
    return server


@contextmanager
def opened(settings: config.DatabaseSettings) -> Iterator[Database]:
    database = Database(settings)
    try:
        yield database
    finally:
        database.close()


@pytest.fixture
def small(table: Server) -> Iterator[Database]:
    """Two transactions at once, two more may wait."""
    with opened(table.settings(pool=2, waiting=2)) as database:
        yield database


async def until(condition: Any, seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_session_is_strict_utc_and_utf8(small: Database) -> None:
    row = await small.get(
        "SELECT @@sql_mode AS mode, @@time_zone AS zone, @@character_set_client AS client,"
        " @@autocommit AS autocommit, @@tx_isolation AS isolation,"
        " @@max_statement_time AS longest, @@innodb_lock_wait_timeout AS wait"
    )
    assert row is not None
    assert "STRICT_ALL_TABLES" in row["mode"]
    assert (row["zone"], row["client"], row["autocommit"]) == ("+00:00", "utf8mb4", 0)
    assert row["isolation"] == "READ-COMMITTED"
    assert (row["longest"], row["wait"]) == (30.0, 5)


async def test_a_value_that_does_not_fit_is_an_error(small: Database) -> None:
    with pytest.raises(StatementFailed, match="too long"):
        await small.execute("UPDATE t SET b = %s WHERE a = 1", "x" * 21)


@pytest.mark.parametrize("text", ["\N{TELESCOPE}", "' OR 1=1 --", "\\", "%s", "a\0b", ""])
async def test_text_comes_back_as_it_went(small: Database, text: str) -> None:
    await small.execute("UPDATE t SET b = %s WHERE a = 1", text)
    assert await small.get("SELECT b FROM t WHERE a = 1") == {"b": text}


async def test_times_are_aware_and_exact(small: Database) -> None:
    east = datetime(2026, 3, 1, 2, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    await small.execute("UPDATE t SET c = %s WHERE a = 1", east)
    row = await small.get("SELECT c, NOW(6) AS now FROM t WHERE a = 1")
    assert row is not None
    assert row["c"] == east
    assert row["c"].tzinfo is row["now"].tzinfo is UTC
    with pytest.raises(ValueError, match="timezone"):
        await small.execute("UPDATE t SET c = %s", datetime(2026, 3, 1))  # noqa: DTZ001


async def test_execute_counts_changed_rows(small: Database) -> None:
    assert await small.execute("UPDATE t SET b = a") == 3
    assert await small.execute("UPDATE t SET b = a") == 0


async def test_get_wants_at_most_one_row(small: Database) -> None:
    assert await small.get("SELECT a FROM t WHERE a = 9") is None
    with pytest.raises(LookupError, match="3 rows"):
        await small.get("SELECT a FROM t")


async def test_a_failed_transaction_leaves_nothing(small: Database) -> None:
    def fail(tx: Connection) -> None:
        tx.execute("DELETE FROM t")
        raise KeyError("on purpose")

    for _ in range(3):
        with pytest.raises(KeyError):
            await small.transaction(fail)
    assert len(await small.query("SELECT a FROM t")) == 3


async def test_a_duplicate_names_its_key(small: Database) -> None:
    with pytest.raises(Duplicate) as caught:
        await small.execute("INSERT INTO t (a) VALUES (1)")
    assert caught.value.key == "PRIMARY"
    await small.execute("UPDATE t SET b = 'for key ''x''' WHERE a = 1")
    with pytest.raises(Duplicate) as caught:
        await small.execute("UPDATE t SET b = 'for key ''x''' WHERE a = 2")
    assert caught.value.key == "b"


async def test_a_signal_is_a_refusal(small: Database) -> None:
    with pytest.raises(RejectedByTrigger, match="no way"):
        await small.execute("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no way'")


async def test_a_deadlock_runs_again(small: Database) -> None:
    meeting = threading.Barrier(2, timeout=PATIENCE)
    runs: list[int] = []

    def cross(first: int, second: int) -> Any:
        def run(tx: Connection) -> None:
            runs.append(first)
            tx.execute("UPDATE t SET b = CONCAT(COALESCE(b, a), 'x') WHERE a = %s", first)
            if len(runs) <= 2:
                meeting.wait()
            tx.execute("UPDATE t SET b = CONCAT(COALESCE(b, a), 'x') WHERE a = %s", second)

        return run

    await asyncio.gather(small.transaction(cross(1, 2)), small.transaction(cross(2, 1)))
    assert len(runs) == 3
    rows = await small.query("SELECT a, b FROM t WHERE a < 3")
    assert [row["b"] for row in rows] == ["1xx", "2xx"]


async def test_a_row_locked_for_long_is_reported(table: Server) -> None:
    with opened(table.settings(statement_timeout=2)) as database, table.admin() as other:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT * FROM deliv.t FOR UPDATE")
            with pytest.raises(Contention):
                await database.execute("UPDATE t SET b = 'x'")
            cursor.execute("COMMIT")
        assert await database.execute("UPDATE t SET b = 'x' WHERE a = 1") == 1


async def test_a_statement_may_not_take_for_ever(table: Server) -> None:
    with opened(table.settings(statement_timeout=1)) as database:
        with pytest.raises(DatabaseUnavailable, match="took too long"):
            await database.query("SELECT SLEEP(20), a FROM t")


async def test_a_statement_may_take_longer_than_connecting(table: Server) -> None:
    with opened(table.settings(connect_timeout=1)) as database:
        assert await database.query("SELECT SLEEP(1.5) AS s") == [{"s": 0}]


async def test_what_exceeds_the_queue_is_refused_at_once(small: Database) -> None:
    gate, running = threading.Event(), []

    def hold(tx: Connection) -> None:
        running.append(tx.get("SELECT 1 AS one"))
        assert gate.wait(PATIENCE)

    held = [asyncio.ensure_future(small.transaction(hold)) for _ in range(4)]
    await until(lambda: len(running) == 2)
    with pytest.raises(Saturated) as caught:
        await small.query("SELECT 1")
    assert not any(one.done() for one in held)  # so it has waited for none of them
    assert caught.value.retry_after > 0
    held[3].cancel()  # one that waits: its place is free again
    await until(lambda: held[3].cancelled())
    last = asyncio.ensure_future(small.query("SELECT 1 AS one"))
    gate.set()
    await asyncio.gather(*held[:3])
    assert await last == [{"one": 1}]
    assert len(running) == 3


def called_by(caller: str, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A call as a request of this caller makes it."""
    context = Context()
    context.run(CALLER.set, caller)
    return asyncio.get_running_loop().create_task(call, context=context)


async def test_one_callers_load_leaves_connections_to_others(table: Server) -> None:
    gate, running = threading.Event(), []

    def hold(tx: Connection) -> int:
        running.append(tx.get("SELECT 1 AS one"))
        assert gate.wait(PATIENCE)
        return tx.execute("UPDATE t SET b = 'x' WHERE a = 1")

    def held(caller: str) -> list[asyncio.Task[int]]:
        return [called_by(caller, database.transaction(hold)) for _ in range(5)]

    with opened(table.settings(pool=8, waiting=3)) as database:
        calls = held("a")
        await until(lambda: len(running) == 2)  # a quarter of the pool
        with pytest.raises(Saturated, match="one caller"):
            await called_by("a", database.query("SELECT 1"))
        assert await called_by("b", database.query("SELECT 1 AS one")) == [{"one": 1}]
        calls += held("c") + held("d")
        await until(lambda: len(running) == 6)
        waiting = called_by("b", database.query("SELECT 1 AS one"))
        await database.check_ready()  # deliv's own work has a quarter to itself
        assert not waiting.done()
        gate.set()
        assert await waiting == [{"one": 1}]
        assert sum(await asyncio.gather(*calls)) == 1


async def test_a_cancelled_call_that_has_begun_is_finished_and_keeps_its_connection(
    table: Server,
) -> None:
    gate, running = threading.Event(), []

    def hold(tx: Connection) -> None:
        running.append(tx.execute("UPDATE t SET b = 'x' WHERE a = 1"))
        assert gate.wait(PATIENCE)

    with opened(table.settings(pool=2)) as database:
        first = called_by("a", database.transaction(hold))
        await until(lambda: len(running) == 1)
        first.cancel()
        await asyncio.wait([first])
        second = called_by("a", database.get("SELECT b FROM t WHERE a = 1"))
        await database.check_ready()
        assert not second.done()
        gate.set()
        assert await second == {"b": "x"}


async def test_at_most_the_pool_connects(small: Database, table: Server) -> None:
    await asyncio.gather(*(small.query("SELECT SLEEP(0.01)") for _ in range(4)))
    await asyncio.gather(*(small.query("SELECT SLEEP(0.01)") for _ in range(4)))
    rows = table.run("SELECT user FROM information_schema.processlist WHERE user = 'deliv'")
    assert 1 <= len(rows) <= 2


async def test_a_connection_that_was_killed_is_replaced(small: Database, table: Server) -> None:
    for _ in range(3):
        await small.execute("UPDATE t SET b = 'y' WHERE a = 1")
        table.run("KILL USER deliv")
        assert await small.execute("UPDATE t SET b = 'x' WHERE a = 1") == 1


async def test_a_connection_killed_in_a_transaction_runs_it_again(
    small: Database, table: Server
) -> None:
    runs = []

    def run(tx: Connection) -> int:
        runs.append(tx.execute("INSERT INTO t (a) VALUES (9)"))
        if len(runs) == 1:
            table.run("KILL USER deliv")
        return tx.execute("UPDATE t SET b = 'x' WHERE a = 9")

    assert await small.transaction(run) == 1
    assert runs == [1, 1]
    assert len(await small.query("SELECT a FROM t WHERE a = 9")) == 1


async def test_a_restart_in_a_transaction_runs_it_again(small: Database, table: Server) -> None:
    runs = []

    def run(tx: Connection) -> None:
        runs.append(tx.execute("INSERT INTO t (a) VALUES (9)"))
        if len(runs) == 1:
            table.kill()
            table.start()
        tx.execute("INSERT INTO t (a) VALUES (10)")

    await small.transaction(run)
    assert runs == [1, 1]
    assert len(await small.query("SELECT a FROM t WHERE a > 8")) == 2


async def test_a_stopped_server_is_named_and_its_return_noticed(
    small: Database, table: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await small.check_ready()
    table.kill()
    with pytest.raises(DatabaseUnavailable, match=r"not available.*refused"):
        await small.query("SELECT 1")
    tries = []
    monkeypatch.setattr(db, "connect", lambda *args: (tries.append(1), connect(*args))[1])
    with pytest.raises(DatabaseUnavailable):
        await small.query("SELECT 1")
    assert tries == [1]  # known to be down: no patience
    table.start()
    await small.check_ready()


async def test_a_frozen_server_costs_a_bounded_time(table: Server) -> None:
    with opened(table.settings(statement_timeout=1, connect_timeout=1)) as database:
        await database.check_ready()
        table.freeze()
        try:
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(DatabaseUnavailable):
                    await database.query("SELECT 1")
        finally:
            table.thaw()
        await database.check_ready()


async def test_a_peer_that_says_nothing_costs_a_bounded_time(table: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = table.settings(port=port, statement_timeout=1, connect_timeout=0.5)
        with opened(settings) as database:
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(DatabaseUnavailable, match="not available"):
                    await database.query("SELECT 1")


async def test_a_read_only_server_is_named(small: Database, table: Server) -> None:
    table.run("SET GLOBAL read_only = 1")
    try:
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await small.execute("UPDATE t SET b = 'x'")
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await small.check_ready()
        assert len(await small.query("SELECT a FROM t")) == 3
    finally:
        table.run("SET GLOBAL read_only = 0")
    assert await small.execute("UPDATE t SET b = 'x' WHERE a = 1") == 1


async def test_too_many_connections_are_named(table: Server) -> None:
    before = table.run("SELECT @@max_connections AS n")[0]["n"]
    with opened(table.settings(pool=20)) as greedy, opened(table.settings()) as database:
        table.run("SET GLOBAL max_connections = 10")
        try:
            barrier = threading.Barrier(11, timeout=PATIENCE)
            held = [
                asyncio.ensure_future(greedy.transaction(lambda tx: barrier.wait()))
                for _ in range(10)
            ]
            await until(lambda: barrier.n_waiting == 10)
            with pytest.raises(DatabaseUnavailable, match="too many connections"):
                await database.query("SELECT 1")
            barrier.wait()
            await asyncio.gather(*held)
        finally:
            table.run(f"SET GLOBAL max_connections = {before}")
        assert await database.query("SELECT 1 AS one") == [{"one": 1}]


async def test_a_wrong_password_is_named(table: Server, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong\n")
    with opened(table.settings(password_file=wrong)) as database:
        with pytest.raises(DatabaseUnavailable, match="refuses the account"):
            await database.query("SELECT 1")


async def test_a_missing_table_is_named(small: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="deliv migrate"):
        await small.query("SELECT * FROM nothing")


async def test_the_service_may_not_change_the_schema(small: Database) -> None:
    for sql in ("DROP TABLE t", "CREATE TABLE u (a INT)", "ALTER TABLE t ADD z INT"):
        with pytest.raises(DatabaseUnavailable, match="lacks a privilege"):
            await small.execute(sql)


async def test_after_closing_nothing_is_left_and_nothing_goes(table: Server) -> None:
    with opened(table.settings()) as database:
        await asyncio.gather(*(database.query("SELECT 1") for _ in range(8)))
    await until(
        lambda: not table.run("SELECT 1 FROM information_schema.processlist WHERE user = 'deliv'")
    )
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await database.query("SELECT 1")


async def test_an_idle_transaction_is_ended_by_the_server(
    small: Database, table: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a process is frozen: the rows it locked must not stay so."""
    monkeypatch.setattr(db, "IDLE_TRANSACTION", 1)
    frozen, thawed = threading.Event(), threading.Event()

    def freeze(tx: Connection) -> None:
        tx.execute("UPDATE t SET b = 'frozen' WHERE a = 1")
        if not frozen.is_set():
            frozen.set()
            assert thawed.wait(PATIENCE)
        tx.execute("UPDATE t SET b = 'thawed' WHERE a = 2")

    held = asyncio.ensure_future(small.transaction(freeze))
    await until(frozen.is_set)
    assert await small.execute("UPDATE t SET b = 'other' WHERE a = 1") == 1
    thawed.set()
    await held
    rows = await small.query("SELECT b FROM t WHERE a < 3 ORDER BY a")
    assert [row["b"] for row in rows] == ["frozen", "thawed"]

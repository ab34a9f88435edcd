"""How MariaDB's errors become deliv's, and what reaches a caller when no server is there."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pymysql
import pytest

from deliv import config
from deliv.db import database as db
from deliv.db.database import (
    Connection,
    ConnectionLost,
    Contention,
    Database,
    Duplicate,
    RejectedByTrigger,
)
from deliv.errors import CommitUnknown, DatabaseUnavailable, Saturated


def operational(code: int, text: str = "text") -> pymysql.OperationalError:
    return pymysql.OperationalError(code, text)


@pytest.mark.parametrize("code", [1020, 1205, 1213])
def test_contention(code: int) -> None:
    assert isinstance(db._translate(operational(code)), Contention)


@pytest.mark.parametrize(
    "error",
    [
        operational(2006),
        operational(2013),
        operational(1927),
        operational(1053),
        operational(4150),
        pymysql.InterfaceError(0, ""),
        pymysql.InternalError("Packet sequence number wrong - got 1 expected 2"),
        ConnectionResetError(104, "reset"),
    ],
)
def test_a_lost_connection(error: Exception) -> None:
    assert isinstance(db._translate(error), ConnectionLost)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1021, "disk is full"),
        (1026, "can't write to its disk"),
        (1030, "storage engine fails"),
        (1040, "too many connections"),
        (1114, "disk or tablespace is full"),
        (1146, "deliv migrate"),
        (1203, "too many connections"),
        (1290, "read-only"),
        (1836, "read-only"),
    ],
)
def test_a_server_that_is_not_fit_says_why(code: int, reason: str) -> None:
    error = db._translate(operational(code, "MariaDB's words"))
    assert type(error) is (db.Full if code in db.FULL else DatabaseUnavailable)
    assert reason in str(error)
    assert "MariaDB's words" in str(error)
    assert str(code) in str(error)


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ("Duplicate entry 'x' for key 'PRIMARY'", "PRIMARY"),
        ("Duplicate entry 'x' for key 'jobs.destination_key'", "destination_key"),
        ("Duplicate entry 'for key 'a'' for key 'b'", "b"),
    ],
)
def test_a_duplicate_names_its_key(message: str, key: str) -> None:
    error = db._translate(pymysql.IntegrityError(1062, message))
    assert isinstance(error, Duplicate)
    assert error.key == key


def test_a_signal_is_a_refusal() -> None:
    assert isinstance(db._translate(operational(1644)), RejectedByTrigger)


class Failing:
    """In place of a driver's connection: COMMIT fails in the given way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def commit(self) -> None:
        raise self._error


@pytest.mark.parametrize("code", [2006, 2013, 1053, 1180, 1021, 1969])
def test_a_failed_commit_of_a_change_is_unknown(code: int) -> None:
    with pytest.raises(CommitUnknown):
        db._commit(Failing(operational(code)), wrote=True)  # type: ignore[arg-type]


def test_a_failed_commit_of_a_reader_is_a_lost_connection() -> None:
    with pytest.raises(ConnectionLost):
        db._commit(Failing(operational(2013)), wrote=False)  # type: ignore[arg-type]


def test_a_deadlock_at_commit_was_rolled_back() -> None:
    """As Galera reports a transaction that another node won."""
    with pytest.raises(Contention):
        db._commit(Failing(operational(1213)), wrote=True)  # type: ignore[arg-type]


def settings(tmp_path: Path, port: int, **changes: float) -> config.DatabaseSettings:
    (tmp_path / "password").write_text("secret")
    return config.DatabaseSettings(
        host="127.0.0.1",
        port=port,
        user="deliv",
        password_file=tmp_path / "password",
        **changes,  # type: ignore[arg-type]
    )


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    database = Database(settings(tmp_path, port))
    with pytest.raises(DatabaseUnavailable, match="not available"):
        asyncio.run(database.query("SELECT 1"))
    database.close()


def test_the_queue_is_bounded_in_length_and_time(tmp_path: Path) -> None:
    async def overfill(database: Database) -> list[BaseException | None]:
        calls = (database.check_ready() for _ in range(4))
        return await asyncio.gather(*calls, return_exceptions=True)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        limits = {"pool": 1, "waiting": 2, "connect_timeout": 0.3, "statement_timeout": 0.2}
        database = Database(settings(tmp_path, port, **limits))
        first, *waited, last = asyncio.run(overfill(database))
        database.close()
    assert isinstance(first, DatabaseUnavailable)
    assert isinstance(last, Saturated)
    assert all(isinstance(error, Saturated) for error in waited)
    assert "waited too long" in str(waited[0])


def test_one_row_or_none() -> None:
    class Rows(Connection):
        def query(self, sql: str, *params: object) -> list[db.Row]:
            return [{"a": 1}, {"a": 2}]

    with pytest.raises(LookupError):
        Rows(None, None).get("...")  # type: ignore[arg-type]

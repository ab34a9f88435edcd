"""MariaDB: transactions on a bounded pool of threads, in the manner of torndb.

A transaction is a function of a `Connection`. It runs in a worker thread, and may run more than
once: from its start again after a deadlock or a connection that was lost before COMMIT was sent.
When the connection is lost during COMMIT it is unknown whether the change was made, and the caller
gets CommitUnknown.

Whoever calls has a share of the pool: see fair_queue.py. While a call waits for its turn it holds
neither a thread nor a connection.

What a caller sees, besides errors.Saturated, errors.DatabaseUnavailable and errors.CommitUnknown:

StatementFailed       MariaDB refused a statement
├── Duplicate         a unique key has that value already; `key` names it
└── RejectedByTrigger a trigger refused a change
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final, TypeVar

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions, convert_datetime, escape_datetime
from pymysql.cursors import DictCursor

from deliv import config
from deliv.db.clock import DatabaseClock
from deliv.db.fair_queue import OWN_WORK, FairQueue
from deliv.errors import CommitUnknown, ConfigError, DatabaseUnavailable, DelivError
from deliv.model.backoff import Backoff
from deliv.ops import metrics

T = TypeVar("T")
Row = dict[str, Any]

# Whose request the running task serves: a DN. What no request asked for is deliv's own work.
CALLER: ContextVar[str] = ContextVar("caller", default=OWN_WORK)

SQL: Final = resources.files("deliv.db") / "sql"
NOW: Final = (SQL / "now.sql").read_text(encoding="utf-8")
LOCK_WAIT = 5  # seconds a statement waits for a row that another transaction has locked
IDLE_TRANSACTION = 10  # seconds after which the server ends a transaction that does nothing
NETWORK_GRACE = 2.0  # seconds the network gets beyond the server's own limit on a statement
RETRY = Backoff(0.025)  # seconds
ATTEMPTS = 8

FULL_FOR = 30.0  # seconds for which a disk that was full is taken to be so

LOST = frozenset({1053, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2055, 4150})
CONTENTION = frozenset({1020, 1205, 1213})
FULL = frozenset({1021, 1026, 1030, 1114})
TIMEOUT = 1969
UNAVAILABLE = {
    1021: "its disk is full",
    1026: "it can't write to its disk",
    1030: "its storage engine fails",
    1040: "it has too many connections",
    1044: "it refuses the account",
    1045: "it refuses the account",
    1047: "its cluster node is not ready",
    1049: "it has no such schema",
    1114: "its disk or tablespace is full",
    1129: "it has blocked this host",
    1130: "it does not admit this host",
    1142: "the account lacks a privilege",
    1146: "the schema is incomplete (run `deliv migrate`)",
    1203: "the account has too many connections",
    1226: "the account has too many connections",
    1290: "it is read-only",
    1317: "the statement was interrupted",
    1698: "it refuses the account",
    1792: "it is read-only",
    1836: "it is read-only",
    TIMEOUT: "the statement took too long",
}


class StatementFailed(DelivError):
    pass


class Duplicate(StatementFailed):
    """`key` is the name of the unique key."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        names = re.findall(r"for key '(?:[^']*\.)?([^'.]+)'", message)
        self.key = names[-1] if names else ""


class RejectedByTrigger(StatementFailed):
    pass


class ConnectionLost(DatabaseUnavailable):
    """The connection broke, and nothing of the transaction was made."""


class NoConnection(DatabaseUnavailable):
    """None could be opened."""


class StatementTimeout(DatabaseUnavailable):
    """A statement took longer than its max_statement_time."""


class Full(DatabaseUnavailable):
    """The server answers, but has no room for what is new."""


class Contention(DatabaseUnavailable):
    """A deadlock, or a row locked for too long: the transaction was rolled back."""


class Connection:
    """One transaction's view of the database. Parameters are bound to %s."""

    def __init__(self, raw: pymysql.Connection[DictCursor], clock: DatabaseClock) -> None:
        self._raw = raw
        self.clock = clock
        self.wrote = False

    def query(self, sql: str, *params: object) -> list[Row]:
        with _translated(), self._raw.cursor() as cursor:
            cursor.execute(sql, params or None)
            return list(cursor.fetchall())

    def get(self, sql: str, *params: object) -> Row | None:
        """The one row, None when there is none; LookupError when there are more."""
        rows = self.query(sql, *params)
        if len(rows) > 1:
            raise LookupError(f"{len(rows)} rows where one was expected: {sql}")
        return rows[0] if rows else None

    def execute(self, sql: str, *params: object) -> int:
        """The number of rows changed (rows that had the new values already do not count)."""
        self.wrote = True
        with _translated(), self._raw.cursor() as cursor:
            return cursor.execute(sql, params or None)

    def now(self) -> datetime:
        """The time that things end by: the database's, as far as it is believed."""
        return self.clock.believed(lambda: self.query(NOW)[0]["now"])


class Database:
    """At most `pool` transactions at once, shared out fairly among callers.

    Each waits for at most `statement_timeout`, then it is errors.Saturated.
    """

    def __init__(
        self, settings: config.DatabaseSettings, account: config.Account | None = None
    ) -> None:
        self._settings = settings
        self._account = account or settings
        self.clock = DatabaseClock(float(settings.clock_settling))
        self._threads = ThreadPoolExecutor(settings.pool, thread_name_prefix="database")
        self._queue = FairQueue(
            settings.pool,
            per_caller=settings.share,
            for_callers=max(1, settings.pool - settings.share),
            waiting=settings.waiting,
        )
        self._idle: list[pymysql.Connection[DictCursor]] = []
        self._up = True
        self._closing = threading.Event()  # ends the pauses
        self._full = ("", -math.inf)  # why, and when

    async def transaction(self, function: Callable[[Connection], T]) -> T:
        """Run `function` and commit; roll back when it raises.

        Cancellation the caller does not stop a transaction that has begun.
        """
        caller, timeout = CALLER.get(), float(self._settings.statement_timeout)
        deadline = time.monotonic() + timeout
        of = "deliv" if caller == OWN_WORK else "callers"
        with metrics.DATABASE_WAITING.labels(of=of).track_inprogress():
            await self._queue.acquire(caller, timeout)
        try:
            running = asyncio.get_running_loop().run_in_executor(
                self._threads, self._run, function, deadline
            )
        except RuntimeError as error:
            self._queue.release(caller)
            raise DatabaseUnavailable("the connections to the database are closed") from error
        # The place is free when the thread is, and not before the loop has handled what the last
        # call returned: so a caller's answers do not pile up there either.
        running.add_done_callback(lambda _: self._queue.release(caller))
        return await asyncio.shield(running)

    async def query(self, sql: str, *params: object) -> list[Row]:
        return await self.transaction(lambda tx: tx.query(sql, *params))

    async def get(self, sql: str, *params: object) -> Row | None:
        return await self.transaction(lambda tx: tx.get(sql, *params))

    async def execute(self, sql: str, *params: object) -> int:
        return await self.transaction(lambda tx: tx.execute(sql, *params))

    async def check_ready(self) -> None:
        """DatabaseUnavailable, with the reason, when writing is not possible now.

        What only overwrites still is when the disk is full, so that the last refusal counts.
        """
        reason, since = self._full
        if time.monotonic() - since < FULL_FOR:
            raise Full(reason)
        row = await self.get((SQL / "ping.sql").read_text(encoding="utf-8"))
        if row and row["read_only"]:
            raise DatabaseUnavailable("the database is not available: it is read-only")

    def close(self) -> None:
        """Finish what was begun, without trying again, then close everything; what waits fails."""
        self._up = False
        self._closing.set()
        self._threads.shutdown()
        self._drop_idle()

    def _run(self, function: Callable[[Connection], T], deadline: float) -> T:
        """Try until it works or the deadline is near; once only while the server is down."""
        failures = 0
        while True:
            try:
                return self._attempt(function)
            except (ConnectionLost, Contention, NoConnection) as error:
                down = isinstance(error, NoConnection)
                pause = RETRY.jittered(failures)
                failures += 1
                last = failures == ATTEMPTS or time.monotonic() + pause > deadline
                if last or (down and not self._up):
                    self._up = self._up and not down
                    raise
            self._closing.wait(pause)

    def _attempt(self, function: Callable[[Connection], T]) -> T:
        """Once, on an idle connection or a new one, which is kept when it can be used again."""
        try:
            raw = self._idle.pop()
        except IndexError:
            raw = connect(self._settings, self._account, self._settings.statement_timeout)
            self._up = True
        try:
            tx = Connection(raw, self.clock)
            result = function(tx)
            _commit(raw, wrote=tx.wrote)
        except BaseException as error:
            if isinstance(error, Full):
                self._full = (str(error), time.monotonic())
            if isinstance(error, DatabaseUnavailable) and not isinstance(error, Contention):
                _discard(raw)
                self._drop_idle()  # they lead to the same server
                raise
            try:
                raw.rollback()
            except (pymysql.err.Error, OSError):
                _discard(raw)
            else:
                self._idle.append(raw)
            raise
        self._idle.append(raw)
        return result

    def _drop_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):
                _discard(self._idle.pop())


def connect(
    settings: config.DatabaseSettings, account: config.Account, statement_timeout: float
) -> pymysql.Connection[DictCursor]:
    """A connection set up as sql/session.sql says. Raises DatabaseUnavailable."""
    network = statement_timeout + NETWORK_GRACE
    try:
        raw = pymysql.connect(
            host=settings.host,
            port=settings.port,
            user=account.user,
            password=account.password(),
            database=settings.name,
            charset="utf8mb4",
            autocommit=False,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.connect_timeout,
            write_timeout=network,
            conv=CONVERSIONS,
            cursorclass=DictCursor,
            **_tls(settings),
        )
        seconds = math.ceil(statement_timeout)
        lock_wait = max(1, min(LOCK_WAIT, seconds - 1))
        limits, isolation = _session_statements()
        with raw.cursor() as cursor:
            cursor.execute(limits, (seconds, lock_wait, IDLE_TRANSACTION))
            cursor.execute(isolation)
    except (pymysql.err.Error, OSError) as error:
        raise NoConnection(f"the database is not available: {_why(error)}") from error
    raw._read_timeout = network  # type: ignore[attr-defined]  # the greeting must not take so long
    return raw


@functools.cache
def _session_statements() -> list[str]:
    """The two statements of sql/session.sql."""
    text = (SQL / "session.sql").read_text(encoding="utf-8")
    return re.sub(r"^--.*\n", "", text, flags=re.MULTILINE).split(";\n")[:2]


def _tls(settings: config.DatabaseSettings) -> dict[str, Any]:
    if settings.ca_file is None:
        return {"ssl_disabled": True}
    try:
        return {"ssl": ssl.create_default_context(cafile=settings.ca_file)}
    except OSError as error:
        raise ConfigError(f"database.ca_file {settings.ca_file} can't be used: {error}") from error


def _commit(raw: pymysql.Connection[DictCursor], *, wrote: bool) -> None:
    try:
        raw.commit()
    except (pymysql.err.Error, OSError) as error:
        translated = _translate(error)
        if not wrote or isinstance(translated, Contention):
            raise translated from error
        raise CommitUnknown(f"the database failed during COMMIT: {_why(error)}") from error


def _discard(raw: pymysql.Connection[DictCursor]) -> None:
    with contextlib.suppress(pymysql.err.Error, OSError):
        raw.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (pymysql.err.Error, OSError) as error:
        raise _translate(error) from error


def _translate(error: Exception) -> DelivError:
    code, text = _code(error), _why(error)
    if code in CONTENTION:
        return Contention(f"the database is busy: {text}")
    if code in UNAVAILABLE:
        kind = {TIMEOUT: StatementTimeout}.get(code, Full if code in FULL else DatabaseUnavailable)
        return kind(f"the database is not available: {text}")
    if code in LOST or isinstance(error, OSError | pymysql.InterfaceError | pymysql.InternalError):
        return ConnectionLost(f"the connection to the database was lost: {text}")
    if isinstance(error, pymysql.IntegrityError) and code in {1062, 1586}:
        return Duplicate(text)
    return RejectedByTrigger(text) if code == 1644 else StatementFailed(text)


def _code(error: Exception) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _why(error: Exception) -> str:
    """The reason in words, then MariaDB's own message."""
    code = _code(error)
    message = f"{error.args[-1] if error.args else error!r} ({code})"
    return f"{UNAVAILABLE[code]}: {message}" if code in UNAVAILABLE else message


def _escape_time(value: datetime, mapping: Any = None) -> str:
    if value.tzinfo is None:
        raise ValueError("a time for the database needs a timezone")
    return escape_datetime(value.astimezone(UTC).replace(tzinfo=None), mapping)


def _convert_time(value: str | bytes) -> datetime | str | None:
    parsed = convert_datetime(value)
    return parsed.replace(tzinfo=UTC) if isinstance(parsed, datetime) else parsed


CONVERSIONS: dict[Any, Any] = {
    **conversions,
    datetime: _escape_time,
    FIELD_TYPE.TIMESTAMP: _convert_time,
    FIELD_TYPE.DATETIME: _convert_time,
}

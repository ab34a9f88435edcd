"""One private MariaDB for the whole run; a fresh schema for each test that asks for `database`.

A test that is a coroutine function runs on a loop of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.cursors import DictCursor

from deliv import config, migrations
from deliv.db import Database
from deliv.store import Store
from deliv.testbed import accounts, mariadb, ports
from deliv.testbed.errors import TestbedError
from deliv.testbed.processes import Processes

TIMEOUT = 100.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), TIMEOUT))
    return True


@dataclass(frozen=True, kw_only=True)
class Server:
    """The private MariaDB, and what a test may do to it."""

    database: mariadb.Database
    processes: Processes

    def kill(self) -> None:
        """SIGKILL: what was committed must still be there after a start."""
        self.processes.kill(mariadb.NAME)

    def start(self) -> None:
        self.processes.start(self.database.program())

    def admin(self) -> pymysql.Connection[DictCursor]:
        """A connection of root's, outside of the code under test; autocommit is on."""
        return pymysql.connect(
            host=self.database.host,
            port=self.database.port,
            user=self.database.admin,
            password=self.database.password(self.database.admin),
            autocommit=True,
            cursorclass=DictCursor,
            ssl_disabled=True,
            read_timeout=60,
        )

    def run(self, *statements: str) -> list[dict[str, Any]]:
        """Run statements as root in the schema of the test; the rows of the last one."""
        with self.admin() as connection, connection.cursor() as cursor:
            cursor.execute(f"USE {self.database.name}")
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def settings(self, **changes: Any) -> config.Database:
        """As in deliv's configuration: an account for rows, another for the schema."""
        server = self.database
        values = {
            "host": server.host,
            "port": server.port,
            "name": server.name,
            "user": server.user,
            "password_file": server.password_file(server.user),
            "migrations": config.Account(
                user=server.migrations_user,
                password_file=server.password_file(server.migrations_user),
            ),
        }
        return config.Database(**{**values, **changes})


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    account = accounts.unprivileged()
    with tempfile.TemporaryDirectory(prefix="deliv-test-mariadb-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        processes = Processes(directory, account)
        (port,) = ports.choose(1)
        database = mariadb.Database(
            directory=directory / mariadb.NAME, secrets=directory / "secrets", port=port
        )
        try:
            database.install(processes, account)
        except TestbedError as error:
            _missing(str(error))
        processes.start(database.program())
        try:
            yield Server(database=database, processes=processes)
        finally:
            processes.kill(mariadb.NAME)


@pytest.fixture
def server(mariadb_server: Server) -> Server:
    """The server, up, with an empty schema."""
    if not mariadb_server.processes.alive(mariadb.NAME):
        mariadb_server.start()
    name = mariadb_server.database.name
    mariadb_server.run(f"DROP DATABASE {name}", f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    return mariadb_server


@pytest.fixture
def migrated(server: Server) -> Server:
    asyncio.run(migrations.migrate(server.settings()))
    return server


@pytest.fixture
def database(migrated: Server) -> Iterator[Database]:
    """deliv's connections, with the service's account, to a fresh schema."""
    database = Database(migrated.settings())
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


def _missing(reason: str) -> None:
    """Without MariaDB: skip on a laptop, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

"""A private MariaDB under test, and what a test may do to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pymysql
from deliv_testbed import accounts, mariadb, ports
from deliv_testbed.clocks import Clock
from deliv_testbed.processes import Processes
from pymysql.cursors import DictCursor

from deliv import config
from deliv.store import migrations


@dataclass(frozen=True, kw_only=True)
class Server:
    database: mariadb.Database
    processes: Processes
    options: tuple[str, ...] = ()
    clock: Clock | None = None

    def kill(self) -> None:
        """SIGKILL: what was committed must still be there after a start."""
        self.processes.kill(mariadb.NAME)

    def start(self) -> None:
        """Returns when it takes connections; does nothing when it is up."""
        if not self.processes.alive(mariadb.NAME):
            program = self.database.program()
            command = (*program.command, *self.options)
            program = replace(program, command=command)
            self.processes.start(self.clock.of(program) if self.clock else program)

    def freeze(self) -> None:
        self.processes.freeze(mariadb.NAME)

    def thaw(self) -> None:
        self.processes.thaw(mariadb.NAME)

    def admin(self) -> pymysql.Connection[DictCursor]:
        """A connection of root's, beside the code under test; autocommit is on."""
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

    def rewrite(self, *statements: str) -> None:
        """Run statements as the schema's owner can: without its triggers, which come back then.

        The jobs are counted again.
        """
        dropped = [f"DROP TRIGGER {row['Trigger']}" for row in self.run("SHOW TRIGGERS")]
        schema = [sql for migration in migrations.load() for sql in migration.statements]
        self.run(*dropped, *statements, *schema)

    def empty(self) -> None:
        """An empty schema."""
        name = self.database.name
        self.run(f"DROP DATABASE {name}", f"CREATE DATABASE {name} CHARACTER SET utf8mb4")

    def settings(self, **changes: Any) -> config.DatabaseSettings:
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
        return config.DatabaseSettings(**{**values, **changes})


@contextmanager
def running(*options: str, clock: Clock | None = None) -> Iterator[Server]:
    """A server for as long as the block runs. TestbedError when MariaDB is not installed.

    `options` are mariadbd's, beside the testbed's own.
    """
    account = accounts.unprivileged()
    with tempfile.TemporaryDirectory(prefix="deliv-test-mariadb-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        processes = Processes(directory, account)
        (port,) = ports.choose(1)
        database = mariadb.Database(
            directory=directory / mariadb.NAME, secrets=directory / "secrets", port=port
        )
        server = Server(database=database, processes=processes, options=options, clock=clock)
        database.install(processes, account)
        try:
            server.start()
            yield server
        finally:
            server.kill()

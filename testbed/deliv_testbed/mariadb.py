"""A private MariaDB server: own data directory, own port, loopback only."""

from __future__ import annotations

import socket
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deliv_testbed import accounts, ports, processes, secrets
from deliv_testbed.processes import Processes, Program

NAME = "mariadb"
ACCOUNTS = Path(__file__).with_name("sql") / "accounts.sql"
PROTOCOL_10 = b"\x0a"


@dataclass(frozen=True, kw_only=True)
class Database:
    """Where the server is and who may do what.

    `deliv` reads and changes rows, `deliv_migrations` changes the schema of the database `deliv`,
    `root` may do everything. The passwords are in files of these names in `secrets`.
    """

    directory: Path
    secrets: Path
    port: int
    host: str = ports.LOOPBACK
    name: str = "deliv"
    user: str = "deliv"
    migrations_user: str = "deliv_migrations"
    admin: str = "root"

    def password_file(self, user: str) -> Path:
        return self.secrets / user

    def password(self, user: str) -> str:
        return self.password_file(user).read_text(encoding="ascii")

    def install(self, processes: Processes, account: accounts.Account) -> None:
        """Make the data directory, and the statements that create the accounts."""
        self.directory.mkdir(parents=True, mode=0o700)
        for user in (self.user, self.migrations_user, self.admin):
            secrets.write(self.password_file(user), account)
        # What the server runs at each start, before it takes connections.
        template = string.Template(ACCOUNTS.read_text(encoding="ascii"))
        text = template.substitute(
            name=self.name,
            host=self.host,
            root_password=self.password(self.admin),
            migrations_user=self.migrations_user,
            migrations_password=self.password(self.migrations_user),
            user=self.user,
            password=self.password(self.user),
        )
        statements = self.directory / "accounts.sql"
        statements.write_text(text, encoding="ascii")
        statements.chmod(0o600)
        account.own(self.directory)
        processes.run(
            (
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={self._data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            )
        )

    def program(self) -> Program:
        return Program(
            name=NAME,
            command=(
                "mariadbd",
                "--no-defaults",
                f"--datadir={self._data}",
                "--socket=mariadb.sock",
                f"--bind-address={self.host}",
                f"--port={self.port}",
                "--skip-name-resolve",
                "--skip-log-bin",
                "--character-set-server=utf8mb4",
                "--max-connections=200",
                f"--init-file={self.directory / 'accounts.sql'}",
                f"--tmpdir={self.directory}",
            ),
            environment={},
            directory=self.directory,
            ready=self.answers,
        )

    def answers(self) -> bool:
        """Whether the server greets: it does so once its accounts are made."""
        return greets(self.host, self.port)

    @property
    def _data(self) -> Path:
        return self.directory / "data"


def greets(host: str, port: int) -> bool:
    """Whether a MySQL server sends its handshake there.

    https://mariadb.com/kb/en/connection/#initial-handshake-packet
    """
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            packet = connection.recv(5)
    except OSError:
        return False
    return packet[4:5] == PROTOCOL_10


@contextmanager
def private() -> Iterator[Database]:
    """A server of its own in a temporary directory, for as long as the block runs."""
    with processes.private(NAME) as own:
        (port,) = ports.choose(1)
        database = Database(
            directory=own.directory / NAME, secrets=own.directory / "secrets", port=port
        )
        database.install(own, own.account)
        own.start(database.program())
        yield database

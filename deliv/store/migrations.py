"""Numbered SQL files, applied once each, in order, under a lock that holds across machines.

A file is deliv/store/sql/NNNN_name.sql. A statement in it ends with a semicolon at the end of an
unindented line (the lines inside a trigger's body are indented). Each statement must be repeatable
("IF NOT EXISTS", "OR REPLACE"): a file that was cut short is run again from its start.

What was applied is in the table `schema_migrations` with the SHA-256 of its file. A file that
was changed afterwards, or gave its number to another, is refused.

A migration leaves the release before it working: during an upgrade both run on the new schema, and
after a rollback the older one alone. So a schema that is ahead of the files is fine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from msgspec import structs

from deliv import config
from deliv.db.database import Connection, Database, StatementFailed
from deliv.errors import ConfigError, DatabaseUnavailable

SQL: Final = resources.files("deliv.store") / "sql"
LOCK_WAIT = 60  # seconds to wait for another `deliv migrate`
STATEMENT_TIMEOUT = config.Seconds(3600)


class MigrationRefused(ConfigError):
    """The files do not fit what the database is or remembers."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    number: int
    name: str
    checksum: str
    statements: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


def load(directory: Traversable = SQL) -> list[Migration]:
    """Every migration there is, in order. MigrationRefused when the numbers have a gap."""
    files = [file for file in directory.iterdir() if re.match(r"\d{4}_\w+\.sql$", file.name)]
    migrations = [_parse(file) for file in sorted(files, key=lambda file: file.name)]
    numbers = [migration.number for migration in migrations]
    if numbers != list(range(1, len(numbers) + 1)):
        raise MigrationRefused(f"migrations must be numbered 1, 2, 3 ...: {numbers}")
    return migrations


async def pending(database: Database, directory: Traversable = SQL) -> list[str]:
    """The names of what `migrate` would apply. MigrationRefused when it would refuse."""
    migrations = load(directory)
    missing = await database.transaction(lambda tx: _pending(tx, migrations))
    return [str(migration) for migration in missing]


async def check_applied(database: Database) -> None:
    """DatabaseUnavailable while some are pending."""
    if missing := await pending(database):
        raise DatabaseUnavailable(f"migrations are pending: {', '.join(missing)}")


async def migrate(settings: config.DatabaseSettings, directory: Traversable = SQL) -> list[str]:
    """Apply what is pending, with the account `migrations`, and return its names."""
    migrations = load(directory)
    patient = structs.replace(settings, pool=1, statement_timeout=STATEMENT_TIMEOUT)
    database = Database(patient, settings.migrations)
    try:
        applied = await database.transaction(lambda tx: _migrate(tx, migrations))
        return [str(migration) for migration in applied]
    finally:
        database.close()


def _parse(file: Traversable) -> Migration:
    content = file.read_bytes()
    number, name = file.name.removesuffix(".sql").split("_", 1)
    return Migration(
        number=int(number),
        name=name,
        checksum=hashlib.sha256(content).hexdigest(),
        statements=tuple(split(content.decode())),
    )


def split(text: str) -> list[str]:
    """The statements of a migration, without comment lines."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    parts = re.split(r"^(\S.*);$", "\n".join(lines), flags=re.MULTILINE)
    pairs = zip(parts[::2], [*parts[1::2], ""], strict=True)
    return [joined for body, end in pairs if (joined := (body + end).strip())]


def _ledger(name: str) -> str:
    """A statement about the table `schema_migrations`."""
    return (SQL / "ledger" / f"{name}.sql").read_text(encoding="utf-8")


def _migrate(tx: Connection, migrations: Sequence[Migration]) -> list[Migration]:
    row = tx.get(_ledger("lock"), LOCK_WAIT)  # until the connection ends: a crash frees it
    if not row or row["held"] != 1:
        raise DatabaseUnavailable("another migration holds the lock")
    tx.execute(_ledger("create"))
    missing = _pending(tx, migrations)
    for migration in missing:
        for sql in migration.statements:
            try:
                tx.execute(sql)
            except StatementFailed as error:
                raise MigrationRefused(f"migration {migration} fails: {error}\n{sql}") from error
        tx.execute(_ledger("record"), migration.number, migration.name, migration.checksum)
    return missing


def _pending(tx: Connection, migrations: Sequence[Migration]) -> list[Migration]:
    exists = tx.get(_ledger("exists"))
    applied = tx.query(_ledger("applied")) if exists and exists["tables"] else []
    # What was applied beyond the files is a newer release's, and suits this one too.
    for row, known in zip(applied, migrations, strict=False):
        label = f"{row['number']:04}_{row['name']}"
        if (row["number"], row["name"]) != (known.number, known.name):
            raise MigrationRefused(f"migration {label} was applied, but its file is missing")
        if row["checksum"] != known.checksum:
            raise MigrationRefused(f"migration {label} was changed after it was applied")
    return list(migrations[len(applied) :])

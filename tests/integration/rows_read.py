"""How much MariaDB reads for a call."""

from __future__ import annotations

from collections.abc import Callable

from deliv.db.database import Connection, Database, Row


async def rows_read(database: Database, call: Callable[[Connection], object]) -> int:
    """How many rows the storage engine handed out for what `call` asked."""

    def run(tx: Connection) -> int:
        before = handled(tx)
        assert call(tx)
        return handled(tx) - before

    return await database.transaction(run)


def handled(tx: Connection) -> int:
    rows: list[Row] = tx.query("SHOW SESSION STATUS LIKE 'Handler_read_%'")
    return sum(int(row["Value"]) for row in rows)

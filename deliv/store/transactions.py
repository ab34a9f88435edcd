"""What the parts of the facade share: how a method is one transaction, also over a lost COMMIT.

Times are the database's, durations in seconds. Besides what each method of the facade says, all
raise errors.DatabaseUnavailable and errors.Saturated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from deliv.db.database import Connection, Database
from deliv.errors import CommitUnknown, Unavailable

T = TypeVar("T")

REPEATS = 3  # how often an unknown COMMIT is looked into


class Transactions:
    """`on_outbox` is called, on the loop, after each commit that filled the outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.on_outbox: Callable[[], None] = lambda: None

    async def _retry_unknown_commit(
        self, first: Callable[[Connection], T], again: Callable[[Connection], T]
    ) -> T:
        """Run `first`; when its COMMIT is unknown, `again`, which looks before it acts.

        CommitUnknown when it could not look: nothing else may be said of the change then.
        """
        try:
            return await self._run(first)
        except CommitUnknown as error:
            unknown = error
        for _ in range(REPEATS):
            try:
                return await self._run(again)
            except CommitUnknown as error:
                unknown = error
            except Unavailable as error:
                raise unknown from error
        raise unknown

    async def _run(self, function: Callable[[Connection], T]) -> T:
        return await self._database.transaction(function)

"""Leases: work that one instance at a time may do, by the database's clock.

A step of that clock makes a lease run out early, or last. Whoever would take it over waits for one
`ttl` then, in which a holder that lives renews it.

The fence grows whenever a lease changes hands. Who was frozen past its expiry finds a higher one:
changes that no row's version guards name the fence they were begun under, and are refused then.
"""

from __future__ import annotations

from dataclasses import dataclass

from deliv.db.clock import STEP
from deliv.db.database import Connection
from deliv.errors import LostRace
from deliv.store.columns import LATER, microseconds

CREATE = "INSERT IGNORE INTO leases (name, owner, fence) VALUES (%s, '', 0)"
REMOVE = "DELETE FROM leases WHERE name = %s AND expires <= NOW(6)"
READ = f"""
SELECT owner, fence, expires > NOW(6) AS held, expires <= %s OR expires > {LATER} AS stepped
FROM leases WHERE name = %s FOR UPDATE
"""  # noqa: S608 - LATER is a constant
EXTEND = f"UPDATE leases SET expires = {LATER} WHERE name = %s"  # noqa: S608 - as above
WRITE = f"UPDATE leases SET owner = %s, fence = %s, expires = {LATER} WHERE name = %s"  # noqa: S608 - LATER is a constant
GUARD = """
SELECT fence FROM leases
WHERE name = %s AND owner = %s AND fence = %s AND expires > NOW(6) LOCK IN SHARE MODE
"""
TRY_CREATE = (
    "INSERT INTO leases (name, owner, fence) VALUES (CONCAT('try:', CONNECTION_ID()), '', 0)"
)
TRY_REMOVE = "DELETE FROM leases WHERE name = CONCAT('try:', CONNECTION_ID())"
RELEASE = "UPDATE leases SET owner = '', expires = NOW(6) WHERE owner = %s"


@dataclass(frozen=True, kw_only=True)
class Fence:
    """A lease as it was when work under it began."""

    name: str
    owner: str
    number: int


def acquire(tx: Connection, name: str, owner: str, ttl: float) -> int | None:
    """The fence when `owner` holds the lease for `ttl` seconds from now, else None."""
    tx.now()  # sees a step
    what = tx.clock.stepped_at, microseconds(ttl + STEP), name
    row = tx.get(READ, *what)
    if row is None:
        create(tx, name)
        row = tx.get(READ, *what) or {}
    mine = row["owner"] == owner
    if row["stepped"] and row["owner"] and not mine:
        tx.execute(EXTEND, microseconds(ttl), name)
        return None
    if row["held"] and not mine:
        return None
    fence = int(row["fence"]) + (0 if row["held"] else 1)
    tx.execute(WRITE, owner, fence, microseconds(ttl), name)
    return fence


def create(tx: Connection, name: str) -> None:
    """A lease that is not held, unless there is one of that name."""
    tx.execute(CREATE, name)


def remove(tx: Connection, name: str) -> None:
    """Remove a lease that has run out."""
    tx.execute(REMOVE, name)


def guard(tx: Connection, fence: Fence) -> None:
    """LostRace unless the lease is still held; it can't be taken before this transaction ends."""
    if tx.get(GUARD, fence.name, fence.owner, fence.number) is None:
        raise LostRace(f"the lease {fence.name} has gone to another instance, or ran out")


def release(tx: Connection, name: str, owner: str) -> None:
    tx.execute(f"{RELEASE} AND name = %s", owner, name)


def release_all(tx: Connection, owner: str) -> None:
    tx.execute(RELEASE, owner)


def try_writing(tx: Connection) -> None:
    """Leaves nothing behind; its commit is written to the disk all the same."""
    tx.execute(TRY_CREATE)
    tx.execute(TRY_REMOVE)

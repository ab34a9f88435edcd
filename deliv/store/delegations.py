"""Credentials that users have delegated: all SQL about them. Their keys come and go encrypted."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from deliv.db.database import Connection, Database, Duplicate
from deliv.errors import Conflict, LostRace, NoCredential
from deliv.model.job import Delegation
from deliv.model.phase import AT_FTS
from deliv.model.rest import user_place
from deliv.model.states import UNFINISHED, Status
from deliv.store import counts, leases, outbox, rests
from deliv.store.columns import SELECT, to_job
from deliv.store.conditions import in_phase, of_status
from deliv.store.leases import Fence
from deliv.store.outbox import Routing

PACE_SEEN = 600  # seconds in which it shows how fast a user's jobs are done
UNFINISHED_JOBS = " + ".join(counts.COLUMNS[status] for status in Status if status in UNFINISHED)
FIELDS = (
    "delegation_id, dn, request, request_key, proxy, proxy_key, expires, told AS notified_at, "
    "version"
)
FIND = f"SELECT {FIELDS} FROM delegations WHERE delegation_id = %s"  # noqa: S608 - a constant
# A job that is handed to FTS with it and its removal wait for each other.
HELD = """
SELECT dn FROM delegations WHERE delegation_id = %s AND proxy_key IS NOT NULL LOCK IN SHARE MODE
"""
BEGIN = """
INSERT INTO delegations (delegation_id, dn, request, request_key, requested)
VALUES (%s, %s, %s, %s, NOW(6))
"""
BEGIN_AGAIN = """
UPDATE delegations SET request = %s, request_key = %s, requested = NOW(6) WHERE delegation_id = %s
"""
# MariaDB assigns from left to right: request_key is compared before it is changed.
ACCEPT = """
UPDATE delegations
SET proxy = %s, proxy_key = %s, expires = %s, told = NULL, version = version + 1,
  accepted = NOW(6),
  delivered_before = (SELECT success FROM submitter_jobs WHERE submitter = delegations.dn),
  request = IF(request_key <=> %s, NULL, request),
  requested = IF(request IS NULL, NULL, requested),
  request_key = IF(request IS NULL, NULL, request_key)
WHERE delegation_id = %s AND (request_key <=> %s OR proxy_key <=> %s)
"""
DROP = """
UPDATE delegations SET proxy = NULL, proxy_key = NULL, expires = NULL
WHERE delegation_id = %s AND proxy_key IS NOT NULL
"""
FORGET_REQUESTS = """
UPDATE delegations SET request = NULL, request_key = NULL, requested = NULL
WHERE requested < %s
"""
WIPE = """
UPDATE delegations SET proxy = NULL, proxy_key = NULL, expires = NULL WHERE expires <= %s
"""
CLEAR = "DELETE FROM delegations WHERE request_key IS NULL AND proxy_key IS NULL"
EXPIRING = f"""
SELECT {FIELDS} FROM delegations
WHERE expires <= %s AND proxy_key IS NOT NULL AND told IS NULL
ORDER BY expires LIMIT %s
"""  # noqa: S608 - a constant
# Those that end before the user's jobs can be expected to be done, at the pace since they came.
TOO_SHORT = f"""
SELECT {FIELDS} FROM delegations JOIN submitter_jobs ON submitter = dn
WHERE proxy_key IS NOT NULL AND told IS NULL AND expires > %s
  AND accepted <= NOW(6) - INTERVAL {PACE_SEEN} SECOND AND success > COALESCE(delivered_before, 0)
  AND ({UNFINISHED_JOBS}) * TIMESTAMPDIFF(SECOND, accepted, NOW(6))
    > (success - COALESCE(delivered_before, 0)) * TIMESTAMPDIFF(SECOND, NOW(6), expires)
ORDER BY expires LIMIT %s
"""  # noqa: S608 - constants
NOTIFY = """
UPDATE delegations SET told = NOW(6) WHERE delegation_id = %s AND version = %s AND told IS NULL
"""
CONCERNED = f"""{SELECT} FORCE INDEX (turn)
WHERE {of_status(UNFINISHED)} AND submitter = %s AND copied_as = 'user'
LIMIT %s
"""
IN_USE = f"""
SELECT job_id FROM jobs FORCE INDEX (turn)
WHERE {in_phase(*AT_FTS)} AND submitter = %s AND copied_as = 'user'
LIMIT 1
"""  # noqa: S608 - constants
MOST = 500  # jobs that a user is notified about, or that go on at once


def guard(tx: Connection, delegation_id: str) -> None:
    """NoCredential when it has gone; else it stays until the transaction ends."""
    row = tx.get(HELD, delegation_id)
    if row is None:
        raise NoCredential("the delegated credential has been withdrawn")


class Delegations:
    """Each method is one transaction. Durations in seconds, by the database's clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, delegation_id: str) -> Delegation | None:
        row = await self._database.get(FIND, delegation_id)
        return Delegation(**row) if row else None

    async def keep_request(
        self, delegation_id: str, dn: str, request: str, key: bytes
    ) -> Delegation:
        """Note a request for a proxy; the one that is there already stays, and is returned."""

        def run(tx: Connection) -> Delegation:
            known = tx.get(f"{FIND} FOR UPDATE", delegation_id)
            if known is None:
                with suppress(Duplicate):  # another request was first, and stays
                    tx.execute(BEGIN, delegation_id, dn, request, key)
            elif known["request"] is None:
                tx.execute(BEGIN_AGAIN, request, key, delegation_id)
            return Delegation(**(tx.get(FIND, delegation_id) or {}))

        return await self._database.transaction(run)

    async def accept(self, known: Delegation, *, proxy: str, key: bytes, expires: datetime) -> None:
        """Take a proxy in, for the sealed `key` of `known`'s request or of its last proxy.

        The user's jobs that wait for it go on, some at once, others with the next looks.
        LostRace when that key has gone meanwhile.
        """
        values = (proxy, key, expires, key, known.delegation_id, key, key)

        def run(tx: Connection) -> None:
            if not tx.execute(ACCEPT, *values):
                raise LostRace(f"the delegation {known.delegation_id} was withdrawn meanwhile")
            place = user_place(known.dn).key
            if rests.end(tx, place):
                rests.free(tx, place, MOST)

        await self._database.transaction(run)

    async def drop(self, delegation_id: str) -> bool:
        """Remove a proxy and its key; whether there was one. A request that waits may stay.

        Conflict while FTS may be copying with it: those copies could not be stopped then.
        """

        def run(tx: Connection) -> bool:
            known = tx.get(f"{FIND} FOR UPDATE", delegation_id)
            if known is not None and tx.get(IN_USE, known["dn"]):
                raise Conflict(
                    "FTS is copying with this credential: cancel these transfers, or wait"
                )
            dropped = tx.execute(DROP, delegation_id)
            tx.execute(CLEAR)
            return bool(dropped)

        return await self._database.transaction(run)

    async def wipe(self, fence: Fence, patience: float) -> int:
        """Remove the keys of what has expired, and of requests of `patience` ago; how many."""

        def run(tx: Connection) -> int:
            leases.guard(tx, fence)
            now = tx.now()
            changed = tx.execute(FORGET_REQUESTS, now - timedelta(seconds=patience))
            changed += tx.execute(WIPE, now)
            tx.execute(CLEAR)
            return changed

        return await self._database.transaction(run)

    async def expiring(self, within: float, limit: int) -> list[Delegation]:
        """What expires soon, or before the user's jobs are done, and its user was not notified."""

        def run(tx: Connection) -> list[Delegation]:
            soon = tx.now() + timedelta(seconds=within)
            rows = [*tx.query(EXPIRING, soon, limit), *tx.query(TOO_SHORT, soon, limit)]
            return [Delegation(**row) for row in rows]

        return await self._database.transaction(run)

    async def notify(self, one: Delegation) -> int | None:
        """An event for each unfinished job that needs it; how many. None: notified before."""

        def run(tx: Connection) -> int | None:
            if not tx.execute(NOTIFY, one.delegation_id, one.version):
                return None
            jobs = [to_job(row) for row in tx.query(CONCERNED, one.dn, MOST)]
            expires = one.expires.isoformat() if one.expires else None
            about = [(job, (Routing.EVENT,)) for job in jobs]
            outbox.add(tx, about, credential_expires=expires)
            return len(jobs)

        return await self._database.transaction(run)

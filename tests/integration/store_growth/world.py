"""A database with a history, and the cases whose reading is counted on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from support.private_mariadb import Server
from support.samples import ALICE, LIMITS, submitted

from deliv.db.database import Database
from deliv.model.job import Delegation, Job
from deliv.model.states import Event
from deliv.store import NOW, Delegations, Store

PRODUCT = "1234567890"
KEY = b"\x01" * 32


@dataclass(frozen=True, kw_only=True)
class World:
    """A database with a history."""

    server: Server
    database: Database
    store: Store
    delegations: Delegations

    async def sample(self, table: str = "jobs", submitter: str = ALICE) -> str:
        """The id of a job of the history."""
        sql = f"SELECT job_id FROM {table} WHERE submitter = %s ORDER BY job_id LIMIT 1"  # noqa: S608
        return str((await self.database.query(sql, submitter))[0]["job_id"])

    async def delegation(self, dn: str, *, expires: timedelta = timedelta(hours=1)) -> Delegation:
        """One that is complete."""
        asked = await self.delegations.keep_request(dn[-6:], dn, "request", dn.encode())
        await self.delegations.accept(
            asked, proxy="proxy", key=dn.encode(), expires=datetime.now(UTC) + expires
        )
        found = await self.delegations.find(dn[-6:])
        assert found is not None
        return found


Call = Callable[[], Awaitable[object]]
Case = Callable[[World], Awaitable[Call]]  # prepares a call
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Name a case: the method's name, then what its arguments are like."""

    def add(prepare: Case) -> Case:
        assert name not in CASES
        CASES[name] = prepare
        return prepare

    return add


async def admitted(world: World) -> Job:
    """A job in STAGING, whichever waited longest."""
    await submitted(world.store)
    job = await world.store.admit(LIMITS.staging)
    assert job is not None
    return job


async def staged(world: World) -> Job:
    """A job that waits for FTS, whichever waited longest."""
    job = await admitted(world)
    return await world.store.apply(job, Event.STAGED, time_staged=NOW)


async def admitted_itself(world: World, **changes: object) -> Job:
    """A job like this in STAGING."""
    job = await submitted(world.store, **changes)
    while (now := await world.store.admit(LIMITS.staging)) and now.job_id != job.job_id:
        pass
    assert now is not None
    return now


async def handed_over(world: World, **changes: object) -> Job:
    """A job that FTS has taken."""
    now = await admitted_itself(world, **changes)
    now = await world.store.apply(now, Event.TRANSFER, delay=None, time_staged=NOW)
    return await world.store.update(now, fts_endpoint="fts1", fts_jobid=now.job_id, fts_posted=NOW)

"""Delegated credentials in MariaDB: requests, proxies, their end, and whom it concerns."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.private_mariadb import Server
from support.samples import ALICE, BOB, admitted, submitted, transferring

from deliv.db.database import Database
from deliv.errors import Conflict, LostRace, NoCredential
from deliv.model.job import Delegation, TransferIdentity
from deliv.model.states import Event, Status
from deliv.store import NOW, Delegations, Fence, Store

ID = "0123456789abcdef" * 2
HOUR = timedelta(hours=1)


@pytest.fixture
def delegations(database: Database) -> Delegations:
    return Delegations(database)


async def requested(delegations: Delegations, key: bytes = b"sealed") -> Delegation:
    return await delegations.keep_request(ID, ALICE, "REQUEST", key)


async def found(delegations: Delegations) -> Delegation:
    known = await delegations.find(ID)
    assert known is not None
    return known


async def delegated(delegations: Delegations, life: timedelta = HOUR) -> Delegation:
    known = await requested(delegations)
    assert known.request_key
    expires = datetime.now(UTC) + life
    await delegations.accept(known, proxy="PROXY", key=known.request_key, expires=expires)
    return await found(delegations)


async def fence(store: Store) -> Fence:
    number = await store.lease("delegations", "me", 60)
    assert number is not None
    return Fence(name="delegations", owner="me", number=number)


async def test_a_request_stays_until_its_proxy_comes(delegations: Delegations) -> None:
    first = await requested(delegations, b"one")
    assert await requested(delegations, b"two") == first
    expires = (datetime.now(UTC) + HOUR).replace(microsecond=5)
    await delegations.accept(first, proxy="PROXY", key=b"one", expires=expires)
    known = await found(delegations)
    assert (known.proxy, known.proxy_key, known.expires) == ("PROXY", b"one", expires)
    assert (known.request, known.request_key, known.version) == (None, None, 1)
    assert (await requested(delegations, b"two")).request_key == b"two"


async def test_requests_of_the_same_moment_are_one(delegations: Delegations) -> None:
    made = await asyncio.gather(*(requested(delegations, b"%d" % n) for n in range(10)))
    assert len({one.request_key for one in made}) == 1


async def test_two_clients_delegate_by_the_same_request(delegations: Delegations) -> None:
    known = await requested(delegations)
    for version, proxy in enumerate(("FIRST", "SECOND"), 1):
        await delegations.accept(
            known, proxy=proxy, key=b"sealed", expires=datetime.now(UTC) + HOUR
        )
        assert (await found(delegations)).proxy == proxy
        assert (await found(delegations)).version == version


async def test_a_proxy_of_the_last_key_leaves_a_new_request_alone(
    delegations: Delegations,
) -> None:
    before = await delegated(delegations)
    await requested(delegations, b"next")
    await delegations.accept(before, proxy="AGAIN", key=b"sealed", expires=datetime.now(UTC) + HOUR)
    known = await found(delegations)
    assert (known.proxy, known.request_key) == ("AGAIN", b"next")


async def test_a_proxy_for_a_key_that_has_gone_is_refused(delegations: Delegations) -> None:
    known = await delegated(delegations)
    assert await delegations.drop(ID)
    assert not await delegations.drop(ID)
    with pytest.raises(LostRace, match="withdrawn"):
        await delegations.accept(
            known, proxy="PROXY", key=b"sealed", expires=datetime.now(UTC) + HOUR
        )
    assert await delegations.find(ID) is None


async def test_what_is_withdrawn_is_handed_to_nobody(
    delegations: Delegations, store: Store
) -> None:
    job = await admitted(store, copied_as=TransferIdentity.USER)
    await delegated(delegations)
    await delegations.drop(ID)
    with pytest.raises(NoCredential, match="withdrawn"):
        await store.apply(job, Event.TRANSFER, delegation=ID)
    known = await store.job(job.job_id)
    assert known is not None
    assert known.status is Status.STAGING


async def test_a_hand_over_waits_for_a_withdrawal_under_way(
    delegations: Delegations, store: Store, database: Database, migrated: Server
) -> None:
    job = await admitted(store, copied_as=TransferIdentity.USER)
    await delegated(delegations)
    with migrated.admin() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE deliv.delegations SET proxy_key = NULL, proxy = NULL")
        assigned = asyncio.ensure_future(store.apply(job, Event.TRANSFER, delegation=ID))
        await until_locked(migrated)
        assert not assigned.done()
        other.commit()
    with pytest.raises(NoCredential):
        await assigned


async def test_a_withdrawal_waits_for_a_hand_over_under_way(
    delegations: Delegations, store: Store, migrated: Server
) -> None:
    job = await transferring(store, copied_as=TransferIdentity.USER)
    await delegated(delegations)
    with migrated.admin() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM deliv.delegations LOCK IN SHARE MODE")
        sql = "UPDATE deliv.jobs SET fts_endpoint = 'fts1', fts_jobid = '1' WHERE job_id = %s"
        cursor.execute(sql, (job.job_id,))
        dropped = asyncio.ensure_future(delegations.drop(ID))
        await until_locked(migrated)
        assert not dropped.done()
        other.commit()
    with pytest.raises(Conflict, match="cancel"):
        await dropped
    assert (await found(delegations)).proxy == "PROXY"


async def until_locked(server: Server) -> None:
    """Until a transaction waits for another's lock.

    InnoDB looks again only when nobody has asked for a tenth of a second.
    """
    waiting = "SELECT trx_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    async with asyncio.timeout(60):
        while not server.run(waiting):
            await asyncio.sleep(0.2)


async def test_a_request_that_waits_outlives_the_last_proxy(delegations: Delegations) -> None:
    waiting = await requested(delegations)
    assert not await delegations.drop(ID)
    assert (await found(delegations)).request_key == waiting.request_key


async def test_what_has_expired_is_wiped(
    delegations: Delegations, store: Store, server: Server
) -> None:
    await delegated(delegations)
    await requested(delegations, b"next")
    assert await delegations.wipe(await fence(store), 3600) == 0
    server.run("UPDATE delegations SET expires = NOW(6)")
    assert await delegations.wipe(await fence(store), 3600) == 1
    known = await found(delegations)
    assert (known.proxy, known.proxy_key, known.request_key) == (None, None, b"next")
    server.run("UPDATE delegations SET requested = NOW(6) - INTERVAL 2 HOUR")
    assert await delegations.wipe(await fence(store), 3600) == 1
    assert await delegations.find(ID) is None


async def test_who_lost_the_lease_wipes_nothing(
    delegations: Delegations, store: Store, server: Server
) -> None:
    await delegated(delegations)
    server.run("UPDATE delegations SET expires = NOW(6)")
    held = await fence(store)
    await store.release_all("me")
    with pytest.raises(LostRace):
        await delegations.wipe(held, 3600)
    assert (await found(delegations)).proxy_key


async def test_users_are_told_once_of_each_proxy(delegations: Delegations, store: Store) -> None:
    mine = await submitted(store, copied_as=TransferIdentity.USER)
    await submitted(store)
    await submitted(store, submitter=BOB, copied_as=TransferIdentity.USER)
    await store.outbox_done([row.id for row in await store.outbox_take(100, 0)])
    one = await delegated(delegations)
    assert await delegations.expiring(1800, 10) == []
    assert await delegations.expiring(7200, 10) == [one]
    assert await delegations.notify(one) == 1
    assert await delegations.notify(one) is None
    assert await delegations.expiring(7200, 10) == []
    (event,) = await store.outbox_take(100, 60)
    assert (event.routing, event.job_id) == ("event", mine.job_id)
    assert one.expires
    assert event.payload["credential_expires"] == one.expires.isoformat()
    again = await delegated(delegations)
    assert await delegations.notify(one) is None
    assert await delegations.notify(again) == 1


async def test_events_of_jobs_say_nothing_of_credentials(store: Store) -> None:
    await submitted(store)
    events = [row for row in await store.outbox_take(100, 60) if row.routing == "event"]
    assert events
    assert all("credential_expires" not in event.payload for event in events)


async def test_who_has_copies_in_hand(store: Store) -> None:
    async def posted(**changes: Any) -> None:
        job = await transferring(store, **changes)
        await store.update(job, fts_endpoint="fts1", fts_jobid=job.job_id, fts_posted=NOW)

    await posted(copied_as=TransferIdentity.USER)
    await posted(copied_as=TransferIdentity.USER)
    await posted(submitter=BOB)
    await admitted(store, submitter="/CN=carol", copied_as=TransferIdentity.USER)
    assert await store.single_file_owners("fts1") == [None, ALICE]
    assert await store.single_file_owners("fts2") == []


async def test_a_job_remembers_under_whose_identity(store: Store) -> None:
    job = await submitted(store, copied_as=TransferIdentity.USER)
    known = await store.job(job.job_id)
    assert known is not None
    assert known.copied_as is TransferIdentity.USER
    assert (await submitted(store)).copied_as is TransferIdentity.SERVICE


async def test_who_has_more_jobs_than_can_be_done_in_time_is_found_early(
    delegations: Delegations, store: Store, database: Database
) -> None:
    """At one job an hour a proxy of seven hours is good for six, and not for eight."""
    for _ in range(2):
        await store.apply(await transferring(store), Event.DELIVER)
    await delegated(delegations, 7 * HOUR)
    one = await found(delegations)
    for _ in range(6):
        await submitted(store, copied_as=TransferIdentity.USER)
    assert await delegations.expiring(60, 10) == []  # nothing is known of its pace
    await database.execute("UPDATE delegations SET accepted = accepted - INTERVAL 1 HOUR")
    assert await delegations.expiring(60, 10) == []
    await database.execute(
        "UPDATE submitter_jobs SET success = success + 1 WHERE submitter = %s", ALICE
    )
    assert await delegations.expiring(60, 10) == []
    for _ in range(2):
        await submitted(store, copied_as=TransferIdentity.USER)
    assert await delegations.expiring(60, 10) == [one]
    await delegations.notify(one)
    assert await delegations.expiring(60, 10) == []

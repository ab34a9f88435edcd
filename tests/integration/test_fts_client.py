"""deliv's FTS client against the dummy FTS: real delegation, real GridFTP copies, real faults."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deliv import config
from deliv.errors import Refused, Unreachable
from deliv.gateways.fts import Copy, Endpoint, Fts, Transfer, TransferOutcome, Verdict
from deliv.gateways.fts.transfer import LARGEST_METADATA
from deliv.gateways.https import HttpsClient
from deliv.model.error_classes import ErrorClass
from integration.private_fts import Fts as Dummy
from integration.private_fts import User, running_or_skipped, silent_port

SOON = 60.0
LARGE = 3 * 2**29
CONTENT = b"visibilities" * 1000


@pytest.fixture(scope="module")
def dummy() -> Iterator[Dummy]:
    with running_or_skipped(slots=2) as server:
        server.put_source("product", CONTENT)
        yield server


@asynccontextmanager
async def connected(
    dummy: Dummy, *, proxy: bool = False, **settings: object
) -> AsyncIterator[Endpoint]:
    """Alice's client, delegated, its breaker fresh."""
    user = dummy.users["alice"]
    https = HttpsClient(_credential(user, proxy), dummy.ca_directory)
    options = {"endpoints": {"dummy": config.HttpsUrl(dummy.url)}, **settings}
    endpoint = Fts(config.FtsSettings(**options), https).endpoint("dummy")
    try:
        await endpoint.ensure_delegated()
        yield endpoint
    finally:
        https.close()


def _credential(user: User, proxy: bool) -> config.CredentialFiles:
    if proxy:
        return config.CredentialFiles(certificate=user.proxy, key=user.proxy)
    return config.CredentialFiles(certificate=user.certificate, key=user.key)


FIELDS = frozenset(Copy.__dataclass_fields__)


def transfer(dummy: Dummy, name: str = "product", **changes: object) -> Transfer:
    """A copy of its own, to a file of its own."""
    one = Copy(source=dummy.at_source(name), destination=dummy.at_destination(f"{uuid.uuid4()}"))
    of_copy = {change: changes.pop(change) for change in FIELDS & changes.keys()}
    return replace(
        Transfer(
            sid=f"{uuid.uuid4()}:1",
            copies=(replace(one, **of_copy),),
            metadata={"deliv_job_id": "x"},
        ),
        **changes,
    )


def destination(one: Transfer) -> str:
    (copy,) = one.copies
    return copy.destination


def delivered(dummy: Dummy, one: Transfer) -> Path:
    return dummy.destination.root / destination(one).rpartition("/")[2]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.02)


async def ended(endpoint: Endpoint, job_id: str) -> TransferOutcome:
    async with asyncio.timeout(SOON):
        while True:
            outcome = (await endpoint.details([job_id]))[job_id]
            if outcome.verdict is not Verdict.RUNNING:
                return outcome
            await asyncio.sleep(0.05)


async def outcome_of(endpoint: Endpoint, one: Transfer) -> TransferOutcome:
    return await ended(endpoint, await endpoint.submit(one))


# --- copies


@pytest.mark.parametrize("proxy", [False, True])
async def test_a_copy_arrives(dummy: Dummy, proxy: bool) -> None:
    one = transfer(dummy, size=len(CONTENT))
    async with connected(dummy, proxy=proxy) as endpoint:
        job_id = await endpoint.submit(one)
        assert job_id == await endpoint.job_id(one.sid)
        outcome = await ended(endpoint, job_id)
    assert outcome.verdict is Verdict.FINISHED
    assert outcome.filesize == len(CONTENT)
    assert delivered(dummy, one).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["empty", "with space", "Größe-ü", "a?b#c%41"])
async def test_names_and_sizes(dummy: Dummy, name: str) -> None:
    dummy.put_source(name, b"" if name == "empty" else CONTENT)
    target = dummy.at_destination(f"to/{name}")
    async with connected(dummy) as endpoint:
        outcome = await outcome_of(endpoint, transfer(dummy, name, destination=target))
    assert outcome.verdict is Verdict.FINISHED, outcome
    size = len(dummy.destination.root.joinpath("to", name).read_bytes())
    assert size == outcome.filesize == (0 if name == "empty" else len(CONTENT))


async def test_the_same_sid_is_copied_once(dummy: Dummy) -> None:
    one = transfer(dummy)
    async with connected(dummy) as endpoint:
        ids = await asyncio.gather(*(endpoint.submit(one) for _ in range(10)))
        assert len(set(ids)) == 1
        assert (await ended(endpoint, ids[0])).verdict is Verdict.FINISHED
        assert await endpoint.submit(one) == ids[0]
        await endpoint.cancel(ids[0])
        assert await endpoint.submit(one) == ids[0]
    (count,) = dummy.sql("SELECT COUNT(*) FROM files WHERE dest_surl = ?", destination(one))[0]
    assert count == 1


async def test_an_existing_file_is_left_unless_it_is_our_own(dummy: Dummy) -> None:
    one = transfer(dummy)
    path = delivered(dummy, one)
    path.write_bytes(b"somebody else's")
    dummy.account.own(path)
    async with connected(dummy) as endpoint:
        outcome = await outcome_of(endpoint, one)
        assert (outcome.error_class, outcome.partial) == (ErrorClass.EXISTS, False)
        assert path.read_bytes() == b"somebody else's"
        again = replace(one, sid=f"{one.sid}2", overwrite=True)
        assert (await outcome_of(endpoint, again)).verdict is Verdict.FINISHED
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("checksum", [None, "ADLER32:{:08x}"])
async def test_both_ends_are_checked(dummy: Dummy, checksum: str | None) -> None:
    """Said in so many words: what FTS makes of a checksum alone is another thing."""
    known = checksum.format(zlib.adler32(CONTENT)) if checksum else None
    async with connected(dummy) as endpoint:
        job_id = await endpoint.submit(transfer(dummy, checksum=known))
        assert (await ended(endpoint, job_id)).verdict is Verdict.FINISHED
    ((mode,),) = dummy.sql("SELECT verify_checksum FROM jobs WHERE job_id = ?", job_id)
    assert mode == "b"


async def test_metadata_as_large_as_fts_takes(dummy: Dummy) -> None:
    largest = {"k": "v" * (LARGEST_METADATA - len('{"k": ""}'))}
    async with connected(dummy) as endpoint:
        outcome = await outcome_of(endpoint, transfer(dummy, metadata=largest))
    assert outcome.verdict is Verdict.FINISHED


# --- failures


async def test_failures_and_their_classes(dummy: Dummy) -> None:
    dummy.put_source("secret", CONTENT).chmod(0)
    (dummy.destination.root / "closed").mkdir(mode=0o555)
    cases = {
        ErrorClass.CHECKSUM: transfer(dummy, checksum="ADLER32:00000001"),
        ErrorClass.SOURCE_MISSING: transfer(dummy, "no-such-product"),
        ErrorClass.UNREACHABLE: transfer(dummy, source="gsiftp://localhost:1/x"),
        ErrorClass.NO_PERMISSION: transfer(dummy, destination=dummy.at_destination("closed/x")),
    }
    async with connected(dummy) as endpoint:
        for error_class, one in cases.items():
            outcome = await outcome_of(endpoint, one)
            assert outcome.verdict is Verdict.FAILED
            assert outcome.error_class is error_class, outcome
        unreadable = await outcome_of(endpoint, transfer(dummy, "secret"))
        assert unreadable.error_class is ErrorClass.SOURCE_MISSING, unreadable


async def test_a_cancel_during_the_copy_leaves_a_part_and_says_so(dummy: Dummy) -> None:
    dummy.put_source("large", LARGE)
    one = transfer(dummy, "large")
    path = delivered(dummy, one)
    async with connected(dummy) as endpoint:
        job_id = await endpoint.submit(one)
        assert job_id in await endpoint.unfinished()
        await until(lambda: path.exists() and path.stat().st_size)
        assert await endpoint.cancel(job_id) == "CANCELED"
        outcome = await ended(endpoint, job_id)
        assert await endpoint.cancel(job_id) == "CANCELED"
    assert outcome.verdict is Verdict.CANCELLED
    assert outcome.error_class is ErrorClass.CANCELLED
    assert outcome.partial
    assert path.stat().st_size < LARGE
    path.unlink()


async def test_a_copy_whose_process_is_killed_leaves_a_part_and_is_made_again(
    dummy: Dummy,
) -> None:
    dummy.put_source("large", LARGE)
    one = transfer(dummy, "large")
    path = delivered(dummy, one)
    dummy.stop()
    dummy.start(slots=2, stalled_after=0.5)
    async with connected(dummy) as endpoint:
        job_id = await endpoint.submit(one)
        await until(lambda: path.exists() and path.stat().st_size)
        ((pid,),) = dummy.sql("SELECT pid FROM files WHERE job_id = ?", job_id)
        os.kill(pid, signal.SIGKILL)
        outcome = await ended(endpoint, job_id)
        assert outcome.verdict is Verdict.FAILED
        assert (outcome.error_class, outcome.partial) == (ErrorClass.TIMEOUT, True)
        assert 0 < path.stat().st_size < LARGE
        (copy,) = one.copies
        good = replace(copy, source=dummy.at_source("product"))
        again = replace(one, sid=f"{one.sid}2", copies=(good,), overwrite=True)
        assert (await outcome_of(endpoint, again)).verdict is Verdict.FINISHED
    assert path.read_bytes() == CONTENT


async def test_a_cancel_before_the_copy_leaves_nothing(dummy: Dummy) -> None:
    async with connected(dummy) as endpoint:
        with dummy.all_slots_taken(2):
            job_id = await endpoint.submit(transfer(dummy))
            assert await endpoint.cancel(job_id) == "CANCELED"
            outcome = await ended(endpoint, job_id)
    assert (outcome.verdict, outcome.partial) == (Verdict.CANCELLED, False)


async def test_too_long_in_the_queue(dummy: Dummy) -> None:
    async with connected(dummy, max_time_in_queue="1s") as endpoint:
        with dummy.all_slots_taken(2):
            outcome = await outcome_of(endpoint, transfer(dummy))
    assert outcome.verdict is Verdict.CANCELLED
    assert outcome.error_class is ErrorClass.TIMEOUT
    assert not outcome.partial


async def test_two_transfers_to_one_destination(dummy: Dummy) -> None:
    dummy.stop()
    dummy.start(slots=2, check_duplicates=True)
    async with connected(dummy) as endpoint:
        with silent_port() as port:
            first = transfer(dummy, source=f"gsiftp://localhost:{port}/x")
            job_id = await endpoint.submit(first)
            with pytest.raises(Refused, match="The submission is duplicated") as caught:
                await endpoint.submit(replace(first, sid=f"{first.sid}2"))
            assert caught.value.code == 409
            assert await endpoint.submit(first) == job_id
            await endpoint.cancel(job_id)


# --- lists and looking up


async def test_lists_and_details_of_many(dummy: Dummy) -> None:
    copies = [transfer(dummy) for _ in range(6)]
    async with connected(dummy) as endpoint:
        ids = [await endpoint.submit(one) for one in copies]
        for job_id in ids:
            assert (await ended(endpoint, job_id)).verdict is Verdict.FINISHED
        finished = await endpoint.finished(2)
        assert {finished[job_id] for job_id in ids} == {"FINISHED"}
        assert not set(ids) & (await endpoint.unfinished()).keys()
        unknown = [str(uuid.uuid4()) for _ in range(150)]
        assert (await endpoint.details([*unknown, *ids])).keys() == set(ids)


async def test_an_archived_job_is_found(dummy: Dummy) -> None:
    async with connected(dummy) as endpoint:
        good, bad = transfer(dummy), transfer(dummy, "no-such-product")
        ids = [await endpoint.submit(one) for one in (good, bad)]
        for job_id in ids:
            await ended(endpoint, job_id)
        dummy.stop()
        dummy.start(archive_after=0)
        await until(lambda: dummy.client("alice").get(f"/jobs/{ids[0]}").status == 404)
        details = await endpoint.details([*ids, str(uuid.uuid4())])
        assert details.keys() == set(ids)
        assert details[ids[0]].verdict is Verdict.FINISHED
        assert details[ids[1]].error_class is ErrorClass.SOURCE_MISSING
        dummy.stop()
        dummy.start(slots=2)


# --- faults


async def test_a_delegation_that_fts_lost(dummy: Dummy) -> None:
    async with connected(dummy) as endpoint:
        identity = await endpoint.whoami()
        dummy.client("alice").delete(f"/delegation/{identity.delegation_id}")
        assert (await outcome_of(endpoint, transfer(dummy))).verdict is Verdict.FINISHED
        assert endpoint.delegation.until is not None
        left = endpoint.delegation.until - datetime.now(UTC)
        assert left > timedelta(hours=23)


async def test_a_delegation_that_is_gone_stops_no_copy(dummy: Dummy) -> None:
    """FTS goes on with the proxy that it has; nothing is sent a second time."""
    async with connected(dummy) as endpoint:
        assert (await outcome_of(endpoint, transfer(dummy))).verdict is Verdict.FINISHED
        identity = await endpoint.whoami()
        with dummy.all_slots_taken(2):
            job_id = await endpoint.submit(transfer(dummy))
            dummy.client("alice").delete(f"/delegation/{identity.delegation_id}")
        assert (await ended(endpoint, job_id)).verdict is Verdict.FINISHED


async def test_fts_breaks_its_answers_off(dummy: Dummy) -> None:
    """Its database lacks a table for a while: no job is lost by that."""
    one = transfer(dummy)
    async with connected(dummy) as endpoint:
        with dummy.all_slots_taken(2):  # so that no copy needs the table
            ids = [await endpoint.submit(one), await endpoint.submit(transfer(dummy))]
            with dummy.without("files"), pytest.raises(Unreachable, match="broke off"):
                await endpoint.details(ids)
            with dummy.without("jobs"):
                for listed in (endpoint.unfinished(), endpoint.finished(2)):
                    with pytest.raises(Unreachable, match="broke off"):
                        await listed
        endpoint.breaker.succeeded()
        for job_id in ids:
            assert (await ended(endpoint, job_id)).verdict is Verdict.FINISHED


async def test_fts_dies_and_comes_back(dummy: Dummy) -> None:
    one = transfer(dummy)
    async with connected(dummy) as endpoint:
        job_id = await endpoint.job_id(one.sid)
        dummy.kill()
        with pytest.raises(Unreachable) as caught:
            await endpoint.submit(one)
        assert not caught.value.sent
        dummy.start(slots=0)  # a copy that has begun would die with it
        assert await endpoint.submit(one, job_id) == job_id
        dummy.kill()
        dummy.start(slots=2)
        assert await endpoint.submit(one, job_id) == job_id
        assert (await ended(endpoint, job_id)).verdict is Verdict.FINISHED
    assert delivered(dummy, one).read_bytes() == CONTENT


async def test_a_frozen_fts_costs_a_timeout_and_no_more(dummy: Dummy) -> None:
    one = transfer(dummy)
    async with connected(dummy, request_timeout=config.Seconds(1)) as endpoint:
        await endpoint.whoami()
        dummy.processes.freeze("fts")
        try:
            with pytest.raises(Unreachable):
                await endpoint.submit(one)
        finally:
            dummy.processes.thaw("fts")
        assert (await outcome_of(endpoint, one)).verdict is Verdict.FINISHED


async def test_a_stranger(dummy: Dummy) -> None:
    https = HttpsClient(_credential(dummy.users["stranger"], False), dummy.ca_directory)
    settings = config.FtsSettings(endpoints={"dummy": config.HttpsUrl(dummy.url)})
    with pytest.raises(Unreachable, match=f"localhost:{dummy.port}"):
        await Fts(settings, https).endpoint("dummy").whoami()
    https.close()

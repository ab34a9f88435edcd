"""A file that an attempt without FTS's word may have left: delivered where it is the product.

FTS follows a script; the destination is a real GridFTP server, which deliv reads with gfal2.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from deliv_testbed import accounts, gridftp, interpreter, pki, ports
from deliv_testbed.accounts import Account
from deliv_testbed.errors import TestbedError
from deliv_testbed.processes import Processes
from structlog.testing import capture_logs
from support.samples import ALICE, staged

from deliv.config import GridFtpSettings, Seconds
from deliv.db.database import Database
from deliv.delivery.comparison import DestinationComparison
from deliv.delivery.destination import destination_file
from deliv.delivery.endpoints import sid
from deliv.errors import DatabaseUnavailable
from deliv.gateways.gridftp import FileFacts, GridFtp
from deliv.gateways.https import HeldCredential
from deliv.model.job import Job, TransferIdentity
from deliv.model.phase import Phase, phase
from deliv.model.states import FINAL, Status
from integration.fts_bench import DELIV, MISSES, Bench, bench, held
from integration.scripted_fts import Grid, reply

PRODUCT = b"what the archive has" * 5000
NAME = "a file.fits"  # by samples.staged
WAIT = 60.0  # seconds for anything
EXISTS = "DESTINATION [17] Destination file exists and overwrite is not enabled"


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A GridFTP server, which lets deliv and `alice` in."""

    server: gridftp.Server
    account: Account
    processes: Processes
    ca_directory: Path
    alice: pki.Credential

    def put(self, content: bytes) -> Path:
        file = self.server.root / NAME
        file.write_bytes(content)
        self.account.own(file)
        return file

    def reader(self, timeout: float = WAIT) -> GridFtp:
        return GridFtp(GridFtpSettings(timeout=Seconds(timeout)), self.ca_directory)


@pytest.fixture(scope="module")
def destination(grid: Grid) -> Iterator[Destination]:
    """Without Globus or gfal2: skip on a laptop, fail in CI."""
    try:
        with tempfile.TemporaryDirectory(prefix="deliv-test-destination-") as name:
            yield from running(grid, Path(name))
    except TestbedError as error:
        if os.environ.get("DELIV_TESTS_REQUIRE"):
            raise
        pytest.skip(str(error))


def running(grid: Grid, directory: Path) -> Iterator[Destination]:
    directory.chmod(0o755)
    account = accounts.unprivileged()
    account = account.reaching(*interpreter.directories(account))
    alice = grid.authority.issue(pki.user_name("alice"))
    grid.authority.install(directory / "ca")
    processes = Processes(directory, account)
    server = gridftp.Server(
        name="destination",
        directory=directory / "destination",
        root=directory / "root",
        ca_directory=directory / "ca",
        port=ports.choose(1)[0],
        data_ports=ports.choose_block(100),
    )
    allowed = gridftp.grid_map([grid.robot.dn, alice.dn], account)
    server.install(grid.authority, allowed, account)
    processes.start(server.program())
    try:
        yield Destination(
            server=server,
            account=account,
            processes=processes,
            ca_directory=directory / "ca",
            alice=alice,
        )
    finally:
        processes.kill(server.name)


Opened = AbstractAsyncContextManager[Bench]
Open = Callable[[GridFtp | None], Opened]


@pytest.fixture
def opened(grid: Grid, database: Database, tmp_path: Path) -> Open:
    return lambda reader: bench(grid, database, tmp_path, reader, other=9)


async def lost(here: Bench, at: Destination, as_user: bool = False, **columns: object) -> Job:
    """A job that FTS has lost while it copied, and that is with FTS again."""
    owner = at.alice.dn if as_user else ALICE
    if as_user:
        here.delegated.held[owner] = held(at.alice)
    job = await staged(
        here.store,
        submitter=owner,
        copied_as=TransferIdentity.USER if as_user else TransferIdentity.SERVICE,
        destination_path=at.server.url,
        destination_host=ports.LOOPBACK,
    )
    announced = {
        "stager_hostname": "archive.example.org",
        "product_size": len(PRODUCT),
        "checksum": f"ADLER32:{zlib.adler32(PRODUCT):08x}",
    }
    job = await here.store.update(job, **announced | columns)
    job = await handed_over(here, job)
    unknown = {"job_id": job.fts_jobid, "http_status": "404 Not Found", "http_message": "No job"}
    for path in ("jobs", "archive"):
        here.server.on("GET", f"/{path}/{job.fts_jobid}", reply(unknown, 404))
    for _ in range(MISSES):
        await here.reconcile()
    job = await here.now(job)
    assert (job.attempt, job.partial, phase(job)) == (2, True, Phase.STAGED)
    return await handed_over(here, job)


async def handed_over(here: Bench, job: Job) -> Job:
    here.server.on("POST", "/jobs", reply({"job_id": await here.endpoint.job_id(sid(job))}))
    await here.transfers.start(job)
    asked = json.loads(here.server.calls("POST", "/jobs")[-1].body)
    assert asked["params"]["overwrite"] is False
    return await here.now(job)


def finds_it(here: Bench, job: Job) -> None:
    """FTS has found a file at the destination."""
    file = {"file_state": "FAILED", "reason": EXISTS, "dest_surl": "gsiftp://it"}
    document = {"job_id": job.fts_jobid, "job_state": "FAILED", "files": [file]}
    here.server.on("GET", f"/jobs/{job.fts_jobid}", reply({**document, "http_status": "200"}))


async def ended(here: Bench, job: Job) -> Job:
    async with asyncio.timeout(WAIT):
        while (job := await here.now(job)).status not in FINAL:
            await asyncio.sleep(0.02)
    return job


async def judged(here: Bench, job: Job) -> Job:
    finds_it(here, job)
    await here.reconcile()
    return await ended(here, job)


@pytest.mark.parametrize("as_user", [True, False], ids=["as user", "as deliv"])
async def test_a_lost_copy_that_has_arrived_is_delivered_once(
    opened: Open, destination: Destination, as_user: bool
) -> None:
    async with opened(destination.reader()) as here:
        job = await lost(here, destination, as_user)
        file = destination.put(PRODUCT)
        job = await judged(here, job)
        assert (job.status, job.error_class, job.attempt) == (Status.SUCCESS, None, 2)
        status = job.detailed_status or ""
        assert status.startswith(f"delivered to {destination.server.url}/a%20file.fits, which was")
        assert "same size and checksum" in status
        history = await here.store.events(job.job_id)
        assert [event.status for event in history if event.status in FINAL] == [Status.SUCCESS]
        assert history[-1].detailed_status == status
        assert file.read_bytes() == PRODUCT


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"x" * len(PRODUCT), "its ADLER32 is "),
        (PRODUCT[:-1], f"it has {len(PRODUCT) - 1} bytes, not {len(PRODUCT)}"),
        (b"", "it has 0 bytes"),
    ],
    ids=["a stranger's", "a part", "empty"],
)
async def test_another_file_is_left_alone(
    opened: Open, destination: Destination, content: bytes, words: str
) -> None:
    async with opened(destination.reader()) as here:
        job = await lost(here, destination, as_user=True)
        file = destination.put(content)
        job = await judged(here, job)
        assert (job.status, job.error_class) == (Status.ERROR, "exists")
        assert f"differs from the product: {words}" in (job.detailed_status or "")
        assert "(a part of) its copy, or a file of yours" in (job.detailed_status or "")
        assert file.read_bytes() == content


async def cannot(here: Bench, job: Job, why: str) -> None:
    job = await judged(here, job)
    assert (job.status, job.error_class) == (Status.ERROR, "exists")
    words = f"deliv could not compare the file there with the product: {why}"
    assert words in (job.detailed_status or "")
    assert "(a part of) its copy, or a file of yours" in (job.detailed_status or "")


async def test_a_destination_that_lets_deliv_not_in(opened: Open, destination: Destination) -> None:
    """What its server says is for the log alone."""
    async with opened(destination.reader()) as here:
        job = await lost(here, destination)
        destination.processes.stop(destination.server.name)
        try:
            await cannot(here, job, "its server did not say what it is (")
        finally:
            destination.processes.start(destination.server.program())
        assert "globus" not in str((await here.now(job)).detailed_status)


async def test_a_credential_that_is_not_there_any_more(
    opened: Open, destination: Destination
) -> None:
    async with opened(destination.reader()) as here:
        job = await lost(here, destination, as_user=True)
        destination.put(PRODUCT)
        del here.delegated.held[destination.alice.dn]
        parts = destination.reader(), here.parts.https, here.parts.delegating
        comparison = await DestinationComparison(*parts).compare(
            job, destination_file(job), job.product_size, job.checksum
        )
        assert not comparison.equal
        assert "no delegated credential" in comparison.result


async def test_a_database_that_is_away_meanwhile_ends_no_job(
    opened: Open, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's credential is in the database: the file is read at a later look."""

    async def away(dn: str) -> HeldCredential:
        raise DatabaseUnavailable("the database is not available")

    async with opened(destination.reader()) as here:
        job = await lost(here, destination, as_user=True)
        destination.put(PRODUCT)
        finds_it(here, job)
        comparison = here.parts.settlement._destination
        with monkeypatch.context() as patched, capture_logs() as lines:
            patched.setattr(comparison, "_delegation", SimpleNamespace(credential=away))
            await here.reconcile()
            assert phase(await here.compared(job)) is Phase.COPYING
        said = [line for line in lines if line["event"].startswith("not compared")]
        assert [line["log_level"] for line in said] == ["warning"]
        await here.reconcile()
        assert (await ended(here, job)).status is Status.SUCCESS


async def test_it_takes_too_long(opened: Open, destination: Destination) -> None:
    async with opened(destination.reader(timeout=0.01)) as here:
        job = await lost(here, destination)
        destination.put(PRODUCT)
        await cannot(here, job, "it took longer than 0.01 s")


@pytest.mark.parametrize("absent", ["checksum", "product_size"])
async def test_nothing_to_compare_with(opened: Open, destination: Destination, absent: str) -> None:
    async with opened(destination.reader()) as here:
        job = await lost(here, destination, **{absent: None})
        await cannot(here, job, "the archive announced no size or no checksum")


async def test_it_may_be_turned_off(opened: Open, destination: Destination) -> None:
    async with opened(None) as here:
        job = await lost(here, destination)
        destination.put(PRODUCT)
        await cannot(here, job, "it is configured not to")


class Held(GridFtp):
    """Reads when it may; notes what it was asked."""

    def __init__(self, reader: GridFtp) -> None:
        self._reader = reader
        self.may = asyncio.Event()
        self.asked: list[str] = []

    async def read(
        self, url: str, *, size: int, algorithm: str, credential: tuple[bytes, bytes]
    ) -> FileFacts:
        self.asked.append(url)
        await self.may.wait()
        return await self._reader.read(url, size=size, algorithm=algorithm, credential=credential)


async def test_a_first_attempt_that_finds_a_file_is_not_looked_after(
    opened: Open, destination: Destination
) -> None:
    """The user's own file stays an error, even if it is the same."""
    reader = Held(destination.reader())
    async with opened(reader) as here:
        job = await here.posted(DELIV, destination_path=destination.server.url)
        here.jobs.states.clear()
        destination.put(PRODUCT)
        job = await judged(here, job)
        assert (job.status, job.error_class, reader.asked) == (Status.ERROR, "exists", [])
        assert "compare" not in (job.detailed_status or "")


async def test_no_other_job_waits_and_one_is_read_once(
    opened: Open, destination: Destination
) -> None:
    reader = Held(destination.reader())
    async with opened(reader) as here:
        job = await lost(here, destination)
        destination.put(PRODUCT)
        finds_it(here, job)
        await here.reconcile()
        other = await here.posted(DELIV)
        here.finish(DELIV, other)
        here.asked_together(other)
        await here.polling.poll_once()
        assert (await here.now(other)).status is Status.SUCCESS
        await here.reconcile()
        waits = await here.now(job)
        assert (phase(waits), waits.attempt) == (Phase.COPYING, 2)
        assert "waiting: the file at the destination is compared" in str(waits.detailed_status)
        reader.may.set()
        assert (await ended(here, job)).status is Status.SUCCESS
        assert len(reader.asked) == 1


async def test_a_cancellation_does_not_wait_for_it(opened: Open, destination: Destination) -> None:
    reader = Held(destination.reader())
    async with opened(reader) as here:
        job = await lost(here, destination)
        finds_it(here, job)
        cancelled = {"job_id": job.fts_jobid, "job_state": "FAILED"}
        here.server.on("DELETE", f"/jobs/{job.fts_jobid}", reply(cancelled))
        await here.reconcile()
        destination.put(PRODUCT)
        assert (await here.cancellation.cancel(job.job_id)).status is Status.CANCELLED
        reader.may.set()
        assert (await here.compared(job)).status is Status.CANCELLED


async def test_one_who_dies_meanwhile_is_followed_by_another(
    opened: Open, destination: Destination
) -> None:
    """Nothing but the wait is stored: FTS says the same at the next look."""
    async with opened(Held(destination.reader())) as here:
        job = await lost(here, destination)
        destination.put(PRODUCT)
        finds_it(here, job)
        await here.reconcile()
        (task,) = here.parts.settlement.comparing.values()
        task.cancel()
    async with opened(destination.reader()) as here:
        finds_it(here, job)
        await here.reconcile()
        assert (await ended(here, job)).status is Status.SUCCESS

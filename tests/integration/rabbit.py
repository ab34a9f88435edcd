"""One private RabbitMQ for the session, with a TLS listener, and a proxy to cut its wires."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from deliv_testbed import accounts, pki, ports, rabbitmq
from deliv_testbed.processes import Processes, wait

from deliv import config

CTL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")


class Rabbit:
    def __init__(self, directory: Path) -> None:
        directory.chmod(0o755)
        account = accounts.unprivileged()
        port, distribution_port, epmd_port, self.tls_port = ports.choose(4)
        self.node = rabbitmq.Broker(
            directory=directory / "node",
            secrets=directory / "secrets",
            port=port,
            distribution_port=distribution_port,
            epmd_port=epmd_port,
        )
        self.node.install(account)
        self.ca_file = directory / "ca.pem"
        self._offer_tls()
        account.own(self.node.directory)
        self._processes = Processes(directory, account)
        self._epmd, self._server = self.node.programs()

    def settings(self, **changes: object) -> config.BrokerSettings:
        usual = {
            "host": self.node.host,
            "port": self.node.port,
            "user": self.node.user,
            "password_file": self.node.password_file,
        }
        return config.BrokerSettings(**(usual | changes))

    def start(self) -> None:
        if not self._processes.alive(rabbitmq.EPMD):
            self._processes.start(self._epmd)
        self._processes.start(self._server)

    def kill(self) -> None:
        """SIGKILL; the kernel closes a dying process's sockets a little after it is gone."""
        self._processes.kill(rabbitmq.NAME)
        assert wait(lambda: not ports.accepts(self.node.port), 60)

    def end(self) -> None:
        self.kill()
        self._processes.kill(rabbitmq.EPMD)

    def ctl(self, *words: str) -> str:
        return self._processes.run((CTL, "-q", *words), self._server.environment)

    def names_saved(self) -> float:
        """When the names of the quorum queues were last on disk; a little after they change."""
        (names,) = self.node.directory.glob("mnesia/*/quorum/*/names.dets")
        return names.stat().st_mtime

    def _offer_tls(self) -> None:
        authority = pki.Authority.create()
        pki.write(self.ca_file, pki.certificate_pem(authority.certificate))
        own = self.node.directory / "conf"
        pki.write_credential(own / "host.pem", own / "host.key", authority.issue_host())
        with (own / "rabbitmq.conf").open("a", encoding="ascii") as file:
            file.write(
                f"listeners.ssl.1 = {self.node.host}:{self.tls_port}\n"
                f"ssl_options.cacertfile = {self.ca_file}\n"
                f"ssl_options.certfile = {own / 'host.pem'}\n"
                f"ssl_options.keyfile = {own / 'host.key'}\n"
            )


@pytest.fixture(scope="session", name="rabbit")
def rabbit_fixture() -> Iterator[Rabbit]:
    if not rabbitmq.SERVER.exists():
        if os.environ.get("DELIV_TESTS_REQUIRE"):
            pytest.fail(f"{rabbitmq.SERVER} is not installed")
        pytest.skip(f"{rabbitmq.SERVER} is not installed")
    with tempfile.TemporaryDirectory(prefix="deliv-rabbit-") as name:
        rabbit = Rabbit(Path(name))
        try:
            rabbit.start()
            yield rabbit
        finally:
            rabbit.end()


class Wire:
    """A TCP proxy in front of the broker; a cut wire refuses, a stopped one goes silent."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def repair(self) -> None:
        self._server = await asyncio.start_server(self._serve, ports.LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(ports.LOOPBACK, self._target)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def wire(target: int) -> AsyncIterator[Wire]:
    proxy = Wire(target)
    await proxy.repair()
    try:
        yield proxy
    finally:
        proxy.flow()
        await proxy.cut()

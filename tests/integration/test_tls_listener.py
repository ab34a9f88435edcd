"""Handshakes that take long, on a live port, beside those of others."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from deliv_testbed import pki
from deliv_testbed.pki import Credential
from support.credentials import ALICE, Grid, alice, costly_key, full
from support.live_client import client_hello
from tornado.netutil import bind_sockets
from tornado.web import Application

from deliv.config import Address, HttpsUrl, Rest, Seconds
from deliv.http.connections.in_flight import InFlight
from deliv.http.connections.limiter import ConnectionLimiter, Stage
from deliv.http.connections.tls_listener import TlsListener
from deliv.identity.connection_identities import ConnectionIdentities
from deliv.identity.tls import ServerTls
from deliv.identity.x509.certificates import costly
from deliv.ops import metrics
from integration.tls_server import Served, WhoAmI

TIMEOUT = 60.0
OTHERS = [f"127.0.0.{number}" for number in range(2, 14)]


class Stuck:
    """A TLS context; while `go` is not set, handshakes from OTHERS do not end."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.go, self.begun = threading.Event(), threading.Event()
        self.go.set()

    def wrap_socket(self, plain: socket.socket, **settings: Any) -> ssl.SSLSocket:
        if plain.getpeername()[0] in OTHERS:
            self.begun.set()
            assert self.go.wait(10 * TIMEOUT)
        return self._context.wrap_socket(plain, **settings)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    grid = Grid.create(tmp_path_factory.mktemp("listener") / "certificates")
    directory = grid.directory.parent
    pki.write_credential(directory / "host.pem", directory / "host.key", grid.root.issue_host())
    return grid


@dataclass(frozen=True, kw_only=True)
class Live:
    listener: TlsListener
    stuck: Stuck
    server: Served

    async def call(self, credential: Credential, source: str) -> tuple[int, dict[str, Any]]:
        """One on a connection of its own."""

        def call() -> tuple[int, dict[str, Any]]:
            with self.server.client(credential, source=source) as client:
                return client.whoami()

        return await asyncio.wait_for(asyncio.to_thread(call), TIMEOUT)


@asynccontextmanager
async def serving(grid: Grid) -> AsyncIterator[Live]:
    """A budget of CPU time is not refilled, so that the machine's speed decides nothing."""
    files = grid.directory.parent / "host.pem", grid.directory.parent / "host.key"
    tls = ServerTls(*files, grid.directory)
    identities, stuck = ConnectionIdentities(tls), Stuck(tls.context)
    listener = TlsListener(
        Application([("/", WhoAmI, {"identities": identities})], log_function=lambda handler: None),
        tls=stuck,
        rest=Rest(
            listen=Address("127.0.0.1:0"),
            public_url=HttpsUrl("https://localhost"),
            certificate=files[0],
            key=files[1],
            handshake_timeout=Seconds(10 * TIMEOUT),
            handshake_cpu_per_second=Seconds(0),
        ),
        limiter=ConnectionLimiter(
            most=100, per_host=100, handshakes=100, count=metrics.CONNECTIONS
        ),
        in_flight=InFlight(),
        costly=lambda connection: costly(identities.chain(connection)),
        malformed=lambda stream: b"",
    )
    (listening,) = bind_sockets(0, "127.0.0.1")
    port = listening.getsockname()[1]
    listener.add_sockets([listening])
    try:
        server = Served(grid=grid, tls=tls, port=port, refusals=[])
        yield Live(listener=listener, stuck=stuck, server=server)
    finally:
        stuck.go.set()
        listener.stop()
        await listener.close_all_connections()


@pytest.mark.parametrize("sources", [OTHERS, OTHERS[:1] * 12], ids=["many", "one"])
async def test_others_connect_while_costly_handshakes_run(grid: Grid, sources: list[str]) -> None:
    bad = full(alice(grid), key=costly_key("proxy"))
    async with serving(grid) as live:
        for source in set(sources):
            status, said = await live.call(bad, source)
            assert (status, "public exponent" in said["msg"]) == (403, True)
        live.stuck.go.clear()
        with ExitStack() as held:
            for source in sources:
                begun = socket.create_connection(("127.0.0.1", live.server.port), 20, (source, 0))
                held.enter_context(begun).sendall(client_hello())
            await until(lambda: len(live.listener.limiter) == len(sources))
            assert (await live.call(alice(grid), "127.0.0.1"))[1]["dn"] == ALICE
            live.stuck.go.set()


async def test_a_costly_handshake_is_not_refused(grid: Grid) -> None:
    """Its address may be a load balancer's: no client behind it is refused for another's."""
    async with serving(grid) as live:
        assert (await live.call(full(alice(grid), key=costly_key("proxy")), OTHERS[0]))[0] == 403
        for _ in range(5):
            assert (await live.call(alice(grid), OTHERS[0]))[1]["dn"] == ALICE


async def test_a_connection_closed_while_its_handshake_runs(grid: Grid) -> None:
    async with serving(grid) as live:
        live.stuck.go.clear()
        with socket.create_connection(
            ("127.0.0.1", live.server.port), TIMEOUT, (OTHERS[0], 0)
        ) as begun:
            begun.sendall(client_hello())
            await asyncio.to_thread(live.stuck.begun.wait, TIMEOUT)
            live.listener.limiter.close(Stage.HANDSHAKE)
            assert len(live.listener.limiter) == 0
            live.stuck.go.set()
            await asyncio.wait_for(asyncio.to_thread(read_to_the_end, begun), TIMEOUT)


def read_to_the_end(connection: socket.socket) -> None:
    while connection.recv(65536):
        continue


async def until(condition: Callable[[], bool]) -> None:
    async def reached() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(reached(), TIMEOUT)

"""A Tornado server on loopback that says who called, and a client that shows what it is given."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from deliv_testbed import pki
from deliv_testbed.pki import Credential
from support.credentials import Grid
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from deliv.errors import CredentialRefused
from deliv.identity.connection_identities import ConnectionIdentities
from deliv.identity.tls import ServerTls

TIMEOUT = 60.0


class WhoAmI(RequestHandler):
    def initialize(self, identities: ConnectionIdentities) -> None:
        self._identities = identities

    def get(self) -> None:
        try:
            identity = self._identities.of(self.request.connection.stream)
        except CredentialRefused as error:
            self.set_status(error.status)
            self.write({"msg": str(error)})
        else:
            fqans = list(identity.attributes.fqans)
            found = {"dn": identity.dn, "limited": identity.limited}
            self.write(found | ({"fqans": fqans} if fqans else {}))


@dataclass(kw_only=True)
class Served:
    """A running server: its TLS, its port, the handshakes it refused and who was named in each."""

    grid: Grid
    tls: ServerTls
    port: int
    refusals: list[str]
    subjects: list[str | None] = field(default_factory=list)

    def client(self, credential: Credential | None, **settings: Any) -> Client:
        return Client(self, credential, **settings)


class Client:
    """One connection with a credential. TLS settings are made as lax as OpenSSL can be."""

    def __init__(
        self,
        served: Served,
        credential: Credential | None,
        *,
        version: ssl.TLSVersion | None = None,
        ciphers: str = "ALL:COMPLEMENTOFALL:@SECLEVEL=0",
        session: ssl.SSLSession | None = None,
        context: ssl.SSLContext | None = None,
        source: str = "127.0.0.1",
    ) -> None:
        self.context = context or _lax_context(served.grid, version, ciphers)
        if credential is not None:
            self._load(served.grid.directory.parent, credential)
        raw = socket.create_connection(("127.0.0.1", served.port), TIMEOUT, (source, 0))
        try:
            self.socket = self.context.wrap_socket(
                raw, server_hostname="localhost", session=session
            )
        except BaseException:
            raw.close()
            raise
        self._http = http.client.HTTPConnection("localhost")
        self._http.sock = self.socket

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *unused: object) -> None:
        self._http.close()

    def whoami(self) -> tuple[int, dict[str, Any]]:
        self._http.request("GET", "/")
        answer = self._http.getresponse()
        return answer.status, json.loads(answer.read())

    def _load(self, directory: Path, credential: Credential) -> None:
        file = directory / "client.pem"
        pki.write(file, credential.proxy_pem(), mode=0o600)
        self.context.load_cert_chain(file)


@contextmanager
def serving(grid: Grid, **settings: Any) -> Iterator[Served]:
    """A server with a host certificate of the grid's root CA, in a thread of its own."""
    directory = grid.directory.parent
    host = grid.root.issue_host()
    pki.write_credential(directory / "host.pem", directory / "host.key", host)
    refusals: list[str] = []
    subjects: list[str | None] = []

    def refused(peer: str, reason: str, subject: str | None) -> None:
        subjects.append(subject)
        refusals.append(reason)

    tls = ServerTls(
        directory / "host.pem",
        directory / "host.key",
        grid.directory,
        on_refusal=refused,
        **settings,
    )
    (listening,) = bind_sockets(0, "127.0.0.1")
    thread = _Loop(tls, listening)
    thread.start()
    try:
        port = listening.getsockname()[1]
        yield Served(grid=grid, tls=tls, port=port, refusals=refusals, subjects=subjects)
    finally:
        thread.stop()


@dataclass
class _Loop:
    tls: ServerTls
    listening: socket.socket
    _ready: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(TIMEOUT)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        routes = [("/", WhoAmI, {"identities": ConnectionIdentities(self.tls)})]
        server = HTTPServer(
            Application(routes, log_function=lambda handler: None), ssl_options=self.tls.context
        )
        server.add_sockets([self.listening])
        self._ready.set()
        await self._stopping.wait()
        server.stop()
        await server.close_all_connections()


def _lax_context(grid: Grid, version: ssl.TLSVersion | None, ciphers: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(ciphers)
    context.load_verify_locations(cadata=pki.certificate_pem(grid.root.certificate).decode())
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


@pytest.fixture(name="own")
def own_fixture(tmp_path: Path) -> Iterator[Served]:
    """For tests that change the files."""
    with serving(Grid.create(tmp_path / "certificates")) as served:
        yield served


def refused(served: Served, credential: pki.Credential) -> str:
    """What the server says in refusing a handshake."""
    del served.refusals[:]
    with pytest.raises(OSError):
        with served.client(credential) as client:
            client.whoami()
    wait_for(lambda: bool(served.refusals))
    return served.refusals[0]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + TIMEOUT, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)

"""A real HTTPS server that says what a test tells it to, and notes what it was asked.

    async with ScriptedFts(grid) as server:
        server.on("GET", "/whoami", reply({"user_dn": "anon"}))
        ...
        server.asked[0].path

Client certificates are required and verified, proxies included, as FTS's Apache does.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from deliv_testbed import pki
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.netutil import bind_sockets

from deliv import config

HTML = "text/html; charset=iso-8859-1"


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    delay: float = 0.0
    drop: bool = False
    after: asyncio.Event | None = None


def reply(document: object, status: int = 200, **options: object) -> Reply:
    return Reply(status=status, body=json.dumps(document).encode(), **options)


def html(status: int) -> Reply:
    return Reply(status=status, body=b"<!DOCTYPE HTML><h1>No</h1>", content_type=HTML)


@dataclass(frozen=True, kw_only=True)
class Asked:
    method: str
    path: str
    query: str
    headers: HTTPHeaders
    body: bytes
    subject: str
    connection: int


class Grid:
    """A CA, deliv's credential and a server's, as files below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = pki.Authority.create()
        self.ca_directory = directory / "certificates"
        self.authority.install(self.ca_directory)
        self.robot = self.authority.issue(pki.service_name("deliv"))
        self.host = self.authority.issue_host()
        self.credential = self.write("deliv", self.robot)
        self.host_credential = self.write("host", self.host)

    def write(self, name: str, credential: pki.Credential) -> config.CredentialFiles:
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        pki.write_credential(certificate, key, credential)
        return config.CredentialFiles(certificate=certificate, key=key)

    def write_proxy(self, name: str, proxy: pki.Credential) -> config.CredentialFiles:
        path = self.directory / f"{name}.proxy"
        pki.write_proxy(path, proxy)
        return config.CredentialFiles(certificate=path, key=path)

    def server_context(self, credential: config.CredentialFiles | None = None) -> ssl.SSLContext:
        own = credential or self.host_credential
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, capath=str(self.ca_directory))
        context.load_cert_chain(own.certificate, own.key)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
        # Python 3.13's default refuses proxies, which have no authority key identifier.
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        return context


@dataclass
class ScriptedFts:
    grid: Grid
    context: ssl.SSLContext | None = None
    asked: list[Asked] = field(default_factory=list)
    script: dict[tuple[str, str], list[Reply | Callable[[Asked], Reply]]] = field(
        default_factory=dict
    )

    def on(self, method: str, path: str, *replies: Reply | Callable[[Asked], Reply]) -> None:
        """What to answer, one after the other; the last one for ever. `/x/*`: all below `/x/`."""
        self.script[method, path] = list(replies)

    def calls(self, method: str, path: str) -> list[Asked]:
        return [one for one in self.asked if (one.method, one.path) == (method, path)]

    async def __aenter__(self) -> Self:
        self._server = HTTPServer(
            self._handle, ssl_options=self.context or self.grid.server_context()
        )
        sockets = bind_sockets(0, "127.0.0.1")
        self._server.add_sockets(sockets)
        self.port = sockets[0].getsockname()[1]
        self.url = f"https://localhost:{self.port}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.stop()
        await self._server.close_all_connections()

    def _handle(self, request: HTTPServerRequest) -> None:
        stream = request.connection.stream
        asked = Asked(
            method=request.method or "",
            path=request.path,
            query=request.query,
            headers=request.headers,
            body=request.body,
            subject=str((stream.socket.getpeercert() or {}).get("subject", "")),
            connection=id(stream),
        )
        self.asked.append(asked)
        task = asyncio.ensure_future(self._answer(request, asked))
        task.add_done_callback(lambda done: done.exception())

    async def _answer(self, request: HTTPServerRequest, asked: Asked) -> None:
        below = asked.path.rpartition("/")[0] + "/*"
        replies = (
            self.script.get((asked.method, asked.path))
            or self.script.get((asked.method, below))
            or [html(404)]
        )
        chosen = replies.pop(0) if len(replies) > 1 else replies[0]
        answer = chosen if isinstance(chosen, Reply) else chosen(asked)
        await asyncio.sleep(answer.delay)
        if answer.after is not None:
            await answer.after.wait()
        connection = request.connection
        if answer.drop:
            connection.stream.close()
            return
        headers = HTTPHeaders(
            {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body))}
        )
        line = ResponseStartLine("", answer.status, "Answer")
        await connection.write_headers(line, headers, answer.body)
        connection.finish()

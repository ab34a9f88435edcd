"""A server over HTTPS that answers a caller as scripted: badly, late, or not at all."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from deliv_testbed import pki


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`drop`: take the request and close without an answer; `close`: answer, then close."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    close: bool = False


def reply(status: int, document: dict[str, Any], **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body=json.dumps(document).encode(), headers=named)


@dataclass(frozen=True, kw_only=True)
class Call:
    method: str
    path: str
    fields: dict[str, str]
    key: str | None
    connection: int
    body: bytes


@dataclass(kw_only=True)
class ScriptedDeliv:
    context: ssl.SSLContext
    port: int = 0
    script: list[Reply] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[ScriptedDeliv]:
        server = _Server(("127.0.0.1", self.port), _handler(self))
        server.context = self.context
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS in the connection's own thread; who fails at it gets the alert, and that is all."""
        try:
            with self.context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:
            request.close()

    def shutdown_request(self, request: Any) -> None:
        request.close()


def _handler(deliv: ScriptedDeliv) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            fields = dict(parse_qsl(body.decode(), keep_blank_values=True))
            deliv.calls.append(
                Call(
                    method=self.command,
                    path=self.path,
                    fields=fields,
                    key=self.headers.get("Idempotency-Key"),
                    connection=self.client_address[1],
                    body=body,
                )
            )
            self._reply(deliv.script.pop(0))

        do_GET = do_POST = _answer

        def _reply(self, reply: Reply) -> None:
            self.close_connection = reply.close or reply.drop
            if reply.drop:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def server_context(
    directory: Path, credential: pki.Credential, ca_directory: Path
) -> ssl.SSLContext:
    """A server that requires a client certificate and takes proxies."""
    cert, key = directory / "server.pem", directory / "server.key"
    pki.write_credential(cert, key, credential)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
    context.load_verify_locations(capath=ca_directory)
    context.load_cert_chain(cert, key)
    return context

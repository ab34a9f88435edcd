"""TLS connections to a running service, with whatever credential and as lax as OpenSSL can be."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT = 60.0
EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`status` 0: there was no HTTP answer, only what TLS or the socket says."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document


def lax_context(
    ca_file: Path, credential: Path | None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """`credential`: a PEM file with certificate, key and chain."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(EVERYTHING)
    context.load_verify_locations(cafile=ca_file)
    if credential is not None:
        context.load_cert_chain(credential)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def client_hello() -> bytes:
    """What a TLS client sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        lax.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


@contextmanager
def connected(
    port: int, context: ssl.SSLContext, source: str = "127.0.0.1"
) -> Iterator[ssl.SSLSocket]:
    """`source`: the loopback address to come from."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT, (source, 0)) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            yield secure


def get(port: int, context: ssl.SSLContext, path: str, source: str = "127.0.0.1") -> Reply:
    """One GET on a connection of its own."""
    try:
        with connected(port, context, source) as secure:
            return exchange(secure, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    except OSError as error:
        return Reply(status=0, headers={}, body=str(error).encode())


def exchange(secure: ssl.SSLSocket, request: bytes) -> Reply:
    """Send bytes, read one answer. ConnectionError when there is none."""
    secure.sendall(request)
    answer = http.client.HTTPResponse(secure, method=request.split(b" ", 1)[0].decode("latin-1"))
    try:
        answer.begin()
        body = answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"no answer: {error!r}") from error
    finally:
        answer.close()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(status=answer.status, headers=headers, body=body)

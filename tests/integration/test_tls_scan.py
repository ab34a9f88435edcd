"""The rules for TLS can be broken: by a server that is as lax as OpenSSL can be."""

from __future__ import annotations

import socketserver
import ssl
import warnings
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread

import pytest
from deliv_testbed import pki
from support.credentials import Grid, user
from support.tls_scan import RULES, Scan, Server, prefers_its_own_order, refuses_sha1

ALLOW_CLIENT_RENEGOTIATION = 1 << 8  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION, without a name here
BROKEN = {
    "no TLS 1.0",
    "no TLS 1.1",
    "ciphers of TLS 1.2",
    "no renegotiation by the client",
    "no resumption by session",
    "no resumption by ticket",
}


class Hello(socketserver.BaseRequestHandler):
    """A handshake, and an answer to each line."""

    def handle(self) -> None:
        assert isinstance(self.server, Lax)
        with suppress(OSError), self.server.context.wrap_socket(self.request, True) as secure:
            while secure.recv(65536):
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            secure.unwrap()  # OpenSSL forgets the session of a connection that ends without it


class Lax(socketserver.ThreadingTCPServer):
    daemon_threads = True
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def lax(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("lax")
    grid = Grid.create(directory / "certificates")
    pki.write_credential(directory / "host.pem", directory / "host.key", grid.root.issue_host())
    pki.write(directory / "client.pem", user(grid.root).proxy_pem(), mode=0o600)
    with Lax(("127.0.0.1", 0), Hello) as server:
        server.context = lax_context()
        server.context.load_cert_chain(directory / "host.pem", directory / "host.key")
        Thread(target=server.serve_forever, daemon=True).start()
        yield Server(address=f"127.0.0.1:{server.server_address[1]}", cert=directory / "client.pem")
        server.shutdown()


def lax_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ALLOW_CLIENT_RENEGOTIATION
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF  # the scanner's; it would spoil the session
    return context


@pytest.fixture(scope="module")
def scan(lax: Server) -> Scan:
    return lax.scan()


def test_the_scanner_sees_what_is_wrong(scan: Scan) -> None:
    assert {rule for rule, holds in RULES.items() if not holds(scan)} == BROKEN


def test_the_clients_order_of_ciphers_is_seen(lax: Server) -> None:
    assert not prefers_its_own_order(lax)


def test_a_signature_with_sha1_is_seen(lax: Server) -> None:
    assert not refuses_sha1(lax)

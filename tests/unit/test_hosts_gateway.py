"""The hosts' proxy: only allowed places, and what never changes is fetched once."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.hosts import gateway

LOOPBACK = "127.0.0.1"


class Registry(BaseHTTPRequestHandler):
    """Answers with the path, and counts."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/cut"):
            body, announced = b"half", 100
        else:
            body = self.path.encode()
            announced = len(body)
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Silent."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer((LOOPBACK, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def registry() -> Iterator[int]:
    Registry.asked = []
    with serving(Registry) as port:
        yield port


@pytest.fixture
def closed() -> Iterator[int]:
    """A port that is taken, and at which nobody answers."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        yield taken.getsockname()[1]


@pytest.fixture
def proxy(registry: int, closed: int, tmp_path: Path) -> Iterator[int]:
    class Handler(gateway.Handler):
        allowed = frozenset({f"{LOOPBACK}:{registry}", f"{LOOPBACK}:{closed}"})
        cache = tmp_path

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    with serving(Handler) as port:
        yield port


def get(proxy: int, address: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, proxy, timeout=60)
    try:
        connection.request("GET", address)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_package_is_fetched_once_and_an_index_every_time(proxy: int, registry: int) -> None:
    base = f"http://{LOOPBACK}:{registry}"
    for _ in range(2):
        assert get(proxy, f"{base}/pool/a_1.deb") == (200, b"/pool/a_1.deb")
        assert get(proxy, f"{base}/dists/InRelease?x=1") == (200, b"/dists/InRelease?x=1")
    assert sorted(Registry.asked) == ["/dists/InRelease?x=1"] * 2 + ["/pool/a_1.deb"]


def test_neither_errors_nor_halves_are_kept(proxy: int, registry: int, tmp_path: Path) -> None:
    base = f"http://{LOOPBACK}:{registry}"
    assert get(proxy, f"{base}/missing.deb")[0] == 404
    with pytest.raises(http.client.IncompleteRead):
        get(proxy, f"{base}/cut/b.deb")
    assert list(tmp_path.iterdir()) == []


def test_no_other_place_can_be_reached(proxy: int, registry: int) -> None:
    for address in (f"http://localhost:{registry}/a.deb", f"http://{LOOPBACK}:1/", "/a.deb"):
        assert get(proxy, address)[0] == 403
    assert Registry.asked == []


def test_a_tunnel_leads_to_allowed_places_only(proxy: int, registry: int) -> None:
    tunnel = http.client.HTTPConnection(LOOPBACK, proxy, timeout=60)
    tunnel.set_tunnel(LOOPBACK, registry)
    tunnel.request("GET", "/through")
    assert tunnel.getresponse().read() == b"/through"
    tunnel.close()
    refused = http.client.HTTPConnection(LOOPBACK, proxy, timeout=60)
    refused.set_tunnel("localhost", registry)
    with pytest.raises(OSError, match="403"):
        refused.request("GET", "/")
    refused.close()


def test_a_registry_that_is_away_is_said_to_be(proxy: int, closed: int) -> None:
    assert get(proxy, f"http://{LOOPBACK}:{closed}/a.deb")[0] == 502
    tunnel = http.client.HTTPConnection(LOOPBACK, proxy, timeout=60)
    tunnel.set_tunnel(LOOPBACK, closed)
    with pytest.raises(OSError, match="502"):
        tunnel.request("GET", "/")
    tunnel.close()

"""The hosts' only way out: a forward proxy for the package registries and no other site.

It listens inside the hub namespace and connects from the machine's own. Debian packages and index
files named by their digest never change, so it caches them for the next run.
usage: python -m tools.hosts.gateway NAMESPACE ADDRESS PORT CACHE NAME:PORT...
"""

from __future__ import annotations

import ctypes
import hashlib
import http.client
import os
import select
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

NEW_NETWORK = 0x40000000  # CLONE_NEWNET of sched.h
TIMEOUT = 60.0
IDLE = 300.0
HOP_BY_HOP = {"connection", "proxy-connection", "keep-alive", "transfer-encoding"}


class Handler(BaseHTTPRequestHandler):
    """One request of one host. Every answer closes its connection."""

    allowed: frozenset[str]
    cache: Path
    answered = False

    def do_CONNECT(self) -> None:
        if not self._is_allowed(self.path):
            return
        name, _, port = self.path.rpartition(":")
        with self._upstream_errors(), socket.create_connection((name, int(port)), TIMEOUT) as site:
            self.send_response(200)
            self.end_headers()
            relay(self.connection, site)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        site = f"{url.hostname}:{url.port or 80}" if url.scheme == "http" else self.path
        if not self._is_allowed(site):
            return
        cached = self._cached(url)
        if cached and cached.exists():
            self._answer_from(cached)
            return
        with self._upstream_errors():
            self._fetch(url, cached)

    do_HEAD = do_GET

    def end_headers(self) -> None:
        super().end_headers()
        self.answered = True

    def _is_allowed(self, site: str) -> bool:
        self.close_connection = True
        if site in self.allowed:
            return True
        self.send_error(403, "not a package registry of this machine")
        return False

    @contextmanager
    def _upstream_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            self.log_error("%s: %r", self.path, error)
            if not self.answered:
                self.send_error(502, "the registry does not answer")

    def _cached(self, url: SplitResult) -> Path | None:
        """The answer's path in the cache; None when it may change."""
        if self.command != "GET" or not (url.path.endswith(".deb") or "/by-hash/" in url.path):
            return None
        return self.cache / hashlib.sha256(self.path.encode()).hexdigest()

    def _answer_from(self, file: Path) -> None:
        with file.open("rb") as content:
            self.send_response(200)
            self.send_header("Content-Length", str(os.fstat(content.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(content, self.wfile)

    def _fetch(self, url: SplitResult, cached: Path | None) -> None:
        upstream = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=TIMEOUT)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        path = url._replace(scheme="", netloc="").geturl()
        try:
            upstream.request(self.command, path, headers=headers | {"Connection": "close"})
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            self._copy(answer, cached if answer.status == 200 else None)
        finally:
            upstream.close()

    def _copy(self, answer: http.client.HTTPResponse, cached: Path | None) -> None:
        if not cached:
            shutil.copyfileobj(answer, self.wfile)
            return
        descriptor, name = tempfile.mkstemp(dir=self.cache)
        try:
            with open(descriptor, "wb") as file:
                while data := answer.read(65536):
                    file.write(data)
                    self.wfile.write(data)
            if not answer.length:  # it is complete
                os.replace(name, cached)
        finally:
            Path(name).unlink(missing_ok=True)


def relay(client: socket.socket, site: socket.socket) -> None:
    """Copy bytes both ways, until one side closes or IDLE seconds pass without any."""
    other = {client: site, site: client}
    while ready := select.select(list(other), [], [], IDLE)[0]:
        for side in ready:
            data = side.recv(65536)
            if not data:
                return
            other[side].sendall(data)


class Server(ThreadingHTTPServer):
    request_queue_size = 64


def listen_inside(namespace: str, address: str, port: int) -> Server:
    """A server whose socket is in the namespace, while this process returns to its own."""
    with open("/proc/self/ns/net") as own, open(f"/run/netns/{namespace}") as inside:
        enter(inside.fileno())
        try:
            return Server((address, port), Handler)
        finally:
            enter(own.fileno())


def enter(namespace: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(namespace, NEW_NETWORK):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main(namespace: str, address: str, port: str, cache: str, *allowed: str) -> None:
    Handler.allowed, Handler.cache = frozenset(allowed), Path(cache)
    Handler.cache.mkdir(parents=True, exist_ok=True)
    listen_inside(namespace, address, int(port)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

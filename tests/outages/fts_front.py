"""What may stand before a FTS server, and spoil what it answers.

It hands deliv's calls on to the server under deliv's own identity. An armed fault gets the call and
says what deliv is to hear of it.
"""

from __future__ import annotations

import http.client
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from deliv_testbed.layout import Layout
from support.running_stack import Stack

TIMEOUT = 60
PASSED_ON = ("Accept", "Content-Type")


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    kind: str
    body: bytes


# Gets a function that has FTS answer; None: the connection ends without an answer.
Fault = Callable[[Callable[[], Answer]], Answer | None]


@dataclass(kw_only=True)
class Armed:
    method: str
    path: re.Pattern[str]
    fault: Fault
    times: int


class Front(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, stack: Stack) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        layout = Layout(directory=stack.directory)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*layout.credential("hosts/fts"))
        self.socket = server.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self._deliv = ssl.create_default_context(capath=stack.ca)
        self._deliv.load_cert_chain(*layout.credential("services/deliv"))
        self._fts = urlsplit(stack.testbed["fts_url"]).netloc
        self._arming = threading.Lock()
        self._armed: list[Armed] = []
        self.url = f"https://127.0.0.1:{self.server_address[1]}"

    def arm(self, method: str, path: str, fault: Fault, times: int) -> None:
        """The fault is what comes of the next so many calls to paths of this pattern."""
        with self._arming:
            armed = Armed(method=method, path=re.compile(path), fault=fault, times=times)
            self._armed.append(armed)

    @property
    def spent(self) -> bool:
        """Whether every armed fault has happened as often as it should."""
        with self._arming:
            return not self._armed

    def disarm(self) -> None:
        with self._arming:
            self._armed.clear()

    def fault(self, method: str, path: str) -> Fault:
        with self._arming:
            for armed in self._armed:
                if armed.method == method and armed.path.fullmatch(path):
                    armed.times -= 1
                    self._armed = [one for one in self._armed if one.times > 0]
                    return armed.fault
        return lambda ask: ask()

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPSConnection(self._fts, timeout=TIMEOUT, context=self._deliv)
        with closing(connection):
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            kind = answer.getheader("Content-Type") or ""
            return Answer(status=answer.status, kind=kind, body=answer.read())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that has gone, or a FTS that has: deliv sees it as it is."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Front

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        fault = self.server.fault(self.command, urlsplit(self.path).path)
        answer = fault(lambda: self.server.ask(self.command, self.path, body, headers))
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = _any

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: FTS has its own log."""


@contextmanager
def standing_before(stack: Stack) -> Iterator[Front]:
    with Front(stack) as front:
        serving = threading.Thread(target=front.serve_forever)
        serving.start()
        try:
            yield front
        finally:
            front.shutdown()
            serving.join()

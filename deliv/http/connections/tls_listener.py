"""The listener for HTTPS: no HTTP before the client has shown a certificate.

Until a client's TLS ClientHello has arrived in full, its connection costs a socket and an object:
the kernel wakes us no earlier (SO_RCVLOWAT). TLS's buffers are allocated when the handshake starts,
HTTP's when it is done. Each step of a handshake waits in a queue (handshakes.py) and runs on a
thread. `handshake_timeout` is the limit for the ClientHello, and again for the rest of the
handshake from when we start it: time that the client waits for us is not counted.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any

from tornado.ioloop import IOLoop
from tornado.iostream import SSLIOStream
from tornado.web import Application

from deliv.config import Rest
from deliv.http.connections.handshakes import HandshakeQueue
from deliv.http.connections.limiter import Stage
from deliv.http.connections.listener import ClientConnection, Listener, tune
from deliv.ops import metrics
from deliv.ops.audit import address as written_address

NOTHING_MORE = 0
RECORD_HEAD = 5  # type, version, length: RFC 8446, section 5.1
HANDSHAKE_RECORD = 22
LONGEST_RECORD = 2**14
# Tornado's whole answer to what is not HTTP, which no handler sees: a 4xx without any header.
BARE_REFUSAL = re.compile(rb"HTTP/1\.[01] 4[0-9]{2} [^\r\n]*\r\n\r\n")


class HttpsStream(SSLIOStream):
    """Answers what is not HTTP by `malformed`. `client` is the address as the audit log has it."""

    client: str
    malformed: Callable[[HttpsStream], bytes]

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        return super().write(self.malformed(self) if BARE_REFUSAL.fullmatch(data) else data)


class TlsClientConnection(ClientConnection):
    """A connection: ClientHello, handshake, HTTP."""

    def __init__(self, listener: TlsListener, plain: socket.socket, address: Any) -> None:
        super().__init__(listener, plain, address)
        self._tls_listener = listener
        self._secure: ssl.SSLSocket | None = None
        self._loop = IOLoop.current()
        self._awaited_bytes = RECORD_HEAD
        self._timer: object | None = None
        self._queued = self._stepping = self._closed = False

    @property
    def busy(self) -> bool:
        return self._queued or super().busy

    @property
    def unanswered(self) -> bool:
        return self._awaited_bytes != NOTHING_MORE and super().unanswered

    def start(self) -> None:
        tune(self._socket)
        self._start_timer()
        self._wait_for(RECORD_HEAD)
        self._loop.add_handler(self._socket, self._on_readable, IOLoop.READ)

    def close(self) -> None:
        self._closed = True
        self._stop_timer()
        self._tls_listener.handshakes.remove(self)
        if self.stream is not None:
            self.stream.close()
        elif not self._stepping and self._socket.fileno() >= 0:
            self._loop.remove_handler(self._socket)
            self._socket.close()

    def drop_tls(self) -> None:
        """Whatever the client sends now ends the connection, and so does its time-out."""
        self._loop.remove_handler(self._socket)
        self._socket, self._secure = socket.socket(fileno=self._socket.detach()), None
        self._awaited_bytes = NOTHING_MORE
        self._loop.add_handler(self._socket, self._on_readable, IOLoop.READ)

    def begin_step(self) -> None:
        self._stepping = True
        if self._secure is None:
            self._listener.limiter.move(self, Stage.HANDSHAKE)
            self._stop_timer()
            self._start_timer()

    def step(self) -> None:
        """On a thread; meanwhile the event loop does not touch the socket."""
        if self._secure is None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._socket = self._secure = self._tls_listener.start_handshake(self._socket)
        self._secure.do_handshake()

    def end_step(self, error: OSError | None) -> None:
        self._queued = self._stepping = False
        if self._closed:
            self._socket.close()
        elif isinstance(error, ssl.SSLWantReadError):
            self._loop.add_handler(self._socket, self._enqueue, IOLoop.READ)
        elif isinstance(error, ssl.SSLWantWriteError):
            self._loop.add_handler(self._socket, self._enqueue, IOLoop.WRITE)
        elif error is not None or self._secure is None:
            self._disconnect()
        else:
            self._stop_timer()
            self.start_http(self._tls_listener.stream(self.host, self._secure, self._address))

    def _on_readable(self, plain: socket.socket, events: int) -> None:
        """All the bytes that were waited for are there, or the client has closed."""
        try:
            if self._awaited_bytes == RECORD_HEAD:
                head = plain.recv(RECORD_HEAD, socket.MSG_PEEK)
                size = record_size(head)
                if size is not None:
                    self._wait_for(size)
                elif head:
                    self._enqueue()
                else:
                    self._disconnect()
            elif self._awaited_bytes == NOTHING_MORE:
                self._disconnect()
            else:
                self._enqueue()
        except BlockingIOError:
            return
        except OSError:
            self._disconnect()

    def _wait_for(self, size: int) -> None:
        self._awaited_bytes = size
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def _enqueue(self, *unused: object) -> None:
        """The client has done its part of the handshake; the next step is ours."""
        self._loop.remove_handler(self._socket)
        self._queued = True
        self._tls_listener.handshakes.append(self)

    def _disconnect(self) -> None:
        self._listener.limiter.remove(self)
        self.close()

    def _start_timer(self) -> None:
        self._timer = self._loop.call_later(self._tls_listener.timeout, self._on_timeout)

    def _on_timeout(self) -> None:
        if self.busy:  # the client has sent what we wait for: the delay is ours
            self._start_timer()
            return
        metrics.CONNECTIONS.closed.labels(why="slow").inc()
        self._disconnect()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
        self._timer = None


class TlsListener(Listener):
    """`costly` decides whether a certificate chain uses up its address's CPU budget.

    `malformed` gives the answer to what is not HTTP.
    """

    def initialize(  # type: ignore[override]
        self,
        application: Application,
        *,
        tls: ssl.SSLContext,
        rest: Rest,
        costly: Callable[[ssl.SSLSocket], bool],
        malformed: Callable[[HttpsStream], bytes],
        **settings: Any,
    ) -> None:
        super().initialize(application, rest=rest, **settings)
        self.timeout = float(rest.handshake_timeout)
        self.handshakes = HandshakeQueue(rest.handshake_cpu_per_second, rest.handshake_cpu_burst)
        self._tls, self._costly, self._malformed = tls, costly, malformed

    async def close_all_connections(self) -> None:
        self.limiter.close(Stage.GREETING, Stage.HANDSHAKE)
        self.handshakes.close()
        await super().close_all_connections()

    def connection(self, plain: socket.socket, address: Any) -> TlsClientConnection:
        return TlsClientConnection(self, plain, address)

    def start_handshake(self, plain: socket.socket) -> ssl.SSLSocket:
        return self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)

    def stream(self, host: str, secure: ssl.SSLSocket, address: Any) -> HttpsStream:
        """What HTTP is spoken over, after the handshake."""
        if self._costly(secure):
            self.handshakes.charge(host, math.inf)
        stream = HttpsStream(secure)
        stream.client, stream.malformed = written_address(*address[:2]), self._malformed
        return stream


def record_size(head: bytes) -> int | None:
    """The size in bytes of the TLS record with this head; None: not a TLS handshake record.

    Then OpenSSL is given it all the same, and answers with the right alert.
    """
    if len(head) < RECORD_HEAD or head[0] != HANDSHAKE_RECORD:
        return None
    length = int.from_bytes(head[3:5])
    return RECORD_HEAD + length if 0 < length <= LONGEST_RECORD else None

"""TLS before the way in: until a peer has shown a certificate.

Until a client's TLS greeting has arrived in full, its connection costs a socket and an object:
the kernel is told to wake us no earlier (SO_RCVLOWAT). TLS's buffers come with the handshake,
HTTP's with the certificate. Each step of a handshake waits for its turn (handshakes.py) and
runs on a thread. The greeting has `handshake_timeout`, and so has the handshake from when we begin
it: that we were late is not counted against anybody.
"""

from __future__ import annotations

import asyncio
import math
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
from deliv.ops.audit import address

NOTHING_MORE = 0
RECORD_HEAD = 5  # type, version, length: RFC 8446, section 5.1
HANDSHAKE_RECORD = 22
LONGEST_RECORD = 2**14
BARE = b"HTTP/1.1 400 Bad Request\r\n\r\n"  # Tornado's whole answer to what is not HTTP


class Stream(SSLIOStream):
    """Answers what is not HTTP as everything else is answered."""

    peer: str
    malformed: Callable[[Stream], bytes]

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        return super().write(self.malformed(self) if data == BARE else data)


class TlsClientConnection(ClientConnection):
    """A connection on its way in, and after that."""

    def __init__(self, door: TlsListener, plain: socket.socket, peer: Any) -> None:
        super().__init__(door, plain, peer)
        self._tls_door = door
        self._secure: ssl.SSLSocket | None = None
        self._loop = IOLoop.current()
        self._wanted = RECORD_HEAD
        self._timer: object | None = None
        self._waits_for_us = self._stepping = self._closed = False

    @property
    def busy(self) -> bool:
        return self._waits_for_us or super().busy

    @property
    def unanswered(self) -> bool:
        return self._wanted != NOTHING_MORE and super().unanswered

    def begin(self) -> None:
        tune(self._socket)
        self._start_timer()
        self._wait_for(RECORD_HEAD)
        self._loop.add_handler(self._socket, self._readable, IOLoop.READ)

    def close(self) -> None:
        self._closed = True
        self._stop_timer()
        self._tls_door.turns.remove(self)
        if self.stream is not None:
            self.stream.close()
        elif not self._stepping and self._socket.fileno() >= 0:
            self._loop.remove_handler(self._socket)
            self._socket.close()

    def shed(self) -> None:
        """Whatever the client says now ends the connection, as silence does in the end."""
        self._loop.remove_handler(self._socket)
        self._socket, self._secure = socket.socket(fileno=self._socket.detach()), None
        self._wanted = NOTHING_MORE
        self._loop.add_handler(self._socket, self._readable, IOLoop.READ)

    def begin_step(self) -> None:
        self._stepping = True
        if self._secure is None:
            self._door.room.move(self, Stage.HANDSHAKE)
            self._stop_timer()
            self._start_timer()

    def step(self) -> None:
        """On a thread, while which the loop leaves the socket alone."""
        if self._secure is None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._socket = self._secure = self._tls_door.secured(self._socket)
        self._secure.do_handshake()

    def end_step(self, error: OSError | None) -> None:
        self._waits_for_us = self._stepping = False
        if self._closed:
            self._socket.close()
        elif isinstance(error, ssl.SSLWantReadError):
            self._loop.add_handler(self._socket, self._await_turn, IOLoop.READ)
        elif isinstance(error, ssl.SSLWantWriteError):
            self._loop.add_handler(self._socket, self._await_turn, IOLoop.WRITE)
        elif error is not None or self._secure is None:
            self._gone()
        else:
            self._stop_timer()
            self.enter(self._tls_door.shaken(self.host, self._secure, self._peer))

    def _readable(self, plain: socket.socket, events: int) -> None:
        try:
            if self._wanted == NOTHING_MORE:
                self._gone()
            elif self._wanted > RECORD_HEAD or self._begins(
                plain.recv(RECORD_HEAD, socket.MSG_PEEK)
            ):
                self._await_turn()
        except BlockingIOError:
            return
        except OSError:
            self._gone()

    def _begins(self, head: bytes) -> bool:
        """Whether the handshake may begin: either all of the greeting is there, or it is none."""
        size = record_size(head)
        if not head:
            self._gone()
        elif size is not None:
            self._wait_for(size)
        return bool(head) and size is None

    def _wait_for(self, size: int) -> None:
        self._wanted = size
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def _await_turn(self, *unused: object) -> None:
        """The peer has done its part; the next one is ours."""
        self._loop.remove_handler(self._socket)
        self._waits_for_us = True
        self._tls_door.turns.append(self)

    def _late(self) -> None:
        if self.busy:  # what it waits for is there: we are late ourselves
            self._start_timer()
            return
        metrics.CONNECTIONS.closed.labels(why="slow").inc()
        self._gone()

    def _gone(self) -> None:
        self._door.room.leave(self)
        self.close()

    def _start_timer(self) -> None:
        self._timer = self._loop.call_later(self._tls_door.timeout, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
        self._timer = None


class TlsListener(Listener):
    """`costly` says whether the peer's chain is one to penalise its address for.

    `malformed` gives the answer to what is not HTTP.
    """

    def initialize(  # type: ignore[override]
        self,
        application: Application,
        *,
        tls: ssl.SSLContext,
        rest: Rest,
        costly: Callable[[ssl.SSLSocket], bool],
        malformed: Callable[[Stream], bytes],
        **settings: Any,
    ) -> None:
        super().initialize(application, rest=rest, **settings)
        self.timeout = float(rest.handshake_timeout)
        self.turns = HandshakeQueue(rest.handshake_cpu_per_second, rest.handshake_cpu_burst)
        self._tls, self._costly, self._malformed = tls, costly, malformed

    async def close_all_connections(self) -> None:
        self.room.close(Stage.GREETING, Stage.HANDSHAKE)
        self.turns.close()
        await super().close_all_connections()

    def visitor(self, plain: socket.socket, peer: Any) -> TlsClientConnection:
        return TlsClientConnection(self, plain, peer)

    def secured(self, plain: socket.socket) -> ssl.SSLSocket:
        return self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)

    def shaken(self, host: str, secure: ssl.SSLSocket, peer: Any) -> Stream:
        """What HTTP is spoken over, after the handshake."""
        if self._costly(secure):
            self.turns.spend(host, math.inf)
        stream = Stream(secure)
        stream.peer, stream.malformed = address(*peer[:2]), self._malformed
        return stream


def record_size(head: bytes) -> int | None:
    """The size of the TLS record that begins so; None: it is none, which OpenSSL is to say."""
    if len(head) < RECORD_HEAD or head[0] != HANDSHAKE_RECORD:
        return None
    length = int.from_bytes(head[3:5])
    return RECORD_HEAD + length if 0 < length <= LONGEST_RECORD else None

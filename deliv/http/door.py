"""The way in: from a TCP connection to one whose peer has shown a certificate.

Until a client's TLS greeting has arrived in full, its connection costs a socket and this object:
the kernel is told to wake us no earlier (SO_RCVLOWAT). TLS's buffers come with the handshake,
HTTP's with the certificate. The greeting has `handshake_timeout`, and so has the handshake from
when we begin it: that we were late is not counted against anybody.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from tornado.concurrent import future_add_done_callback
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate
from tornado.ioloop import IOLoop
from tornado.iostream import SSLIOStream
from tornado.netutil import add_accept_handler
from tornado.web import Application

from deliv import metrics
from deliv.addresses import neighbourhood
from deliv.audit import address
from deliv.config import Rest
from deliv.http.room import Room, Stage

LOOK_AGAIN = 0.05  # seconds
NOTHING_MORE = 0
RECORD_HEAD = 5  # type, version, length: RFC 8446, section 5.1
HANDSHAKE_RECORD = 22
LONGEST_RECORD = 2**14
UNACKNOWLEDGED = 30_000  # milliseconds that a peer may take to accept what it is sent
BARE = b"HTTP/1.1 400 Bad Request\r\n\r\n"  # Tornado's whole answer to what is not HTTP


class Busy(Protocol):
    def serves(self, stream: object) -> bool: ...


class Stream(SSLIOStream):
    """Answers what is not HTTP as everything else is answered."""

    peer: str
    malformed: Callable[[Stream], bytes]

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        return super().write(self.malformed(self) if data == BARE else data)


class Visitor:
    """A connection on its way in, and after that."""

    def __init__(self, door: Door, plain: socket.socket, peer: Any) -> None:
        self.host = neighbourhood(peer[0])
        self.stream: Stream | None = None
        self.requests = -1  # that were answered; -1 until there is a certificate
        self._door, self._plain, self._peer = door, plain, peer
        self._loop = IOLoop.current()
        self._wanted = RECORD_HEAD
        self._timer: object | None = None
        self._timeout = 0.0

    @property
    def busy(self) -> bool:
        if self.stream is None:
            return _readable(self._plain)
        return self._door.in_hand.serves(self.stream) or _readable(self.stream.socket)

    @property
    def unanswered(self) -> bool:
        """It came to ask something, and has no answer yet."""
        return self._wanted != NOTHING_MORE and (self.requests < 1 or self.busy)

    def begin(self, timeout: float) -> None:
        _tune(self._plain)
        self._timeout = timeout
        self._start_timer()
        self._wait_for(RECORD_HEAD)
        self._loop.add_handler(self._plain, self._readable, IOLoop.READ)

    def close(self) -> None:
        self._stop_timer()
        if self.stream is not None:
            self.stream.close()
        elif self._plain.fileno() >= 0:
            self._loop.remove_handler(self._plain)
            self._plain.close()

    def shed(self) -> None:
        """Whatever the client says now ends the connection, as silence does in the end."""
        stream, self.stream = self.stream, None
        if stream is None or stream.closed():
            self._gone()
            return
        self._plain = socket.socket(fileno=os.dup(stream.socket.fileno()))
        stream.close()
        self._wanted = NOTHING_MORE
        self._loop.add_handler(self._plain, self._readable, IOLoop.READ)

    def _readable(self, plain: socket.socket, events: int) -> None:
        try:
            if self._wanted == NOTHING_MORE:
                self._gone()
            elif self._wanted > RECORD_HEAD or self._begins(
                plain.recv(RECORD_HEAD, socket.MSG_PEEK)
            ):
                self._stop_timer()  # the peer has done its part
                self._loop.remove_handler(plain)
                self._door.turns.append(self)
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
        self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def shake(self) -> None:
        """Begin the handshake."""
        if self._plain.fileno() < 0:  # it gave way
            return
        self._door.room.move(self, Stage.HANDSHAKE)
        self._start_timer()
        try:
            self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self.stream = self._door.secured(self._plain, self._peer)
        except OSError:
            self._gone()
        else:
            future_add_done_callback(self.stream.wait_for_handshake(), self._shaken)

    def _shaken(self, done: asyncio.Future[Any]) -> None:
        error = done.exception()
        if self.stream is None:  # it was shed
            return
        self._stop_timer()
        if error is not None:
            self._door.room.leave(self)
        else:
            self._door.enter(self, self.stream, self._peer)

    def _late(self) -> None:
        if self.stream is None and self.busy:  # what it waits for is there: we are late ourselves
            self._start_timer()
            return
        metrics.CONNECTIONS_CLOSED.labels(why="slow").inc()
        self._gone()

    def _gone(self) -> None:
        self._door.room.leave(self)
        self.close()

    def _start_timer(self) -> None:
        self._timer = self._loop.call_later(self._timeout, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
        self._timer = None


class Turns:
    """One handshake after the other, the newest first, and what else there is to do in between.

    Each takes milliseconds, so that a crowd that comes at once would stop everything; and who came
    long ago may have left.
    """

    def __init__(self) -> None:
        self._waiting: list[Visitor] = []

    def append(self, visitor: Visitor) -> None:
        self._waiting.append(visitor)
        if len(self._waiting) == 1:
            IOLoop.current().add_callback(self._next)

    def _next(self) -> None:
        visitor = self._waiting.pop()
        if self._waiting:
            IOLoop.current().add_callback(self._next)
        visitor.shake()


class Door(HTTPServer):
    """Tornado's server behind the way in. `malformed` gives the answer to what is not HTTP."""

    in_hand: Busy
    room: Room
    turns: Turns

    def initialize(  # type: ignore[override]
        self,
        application: Application,
        *,
        tls: ssl.SSLContext,
        rest: Rest,
        room: Room,
        in_hand: Busy,
        malformed: Callable[[Stream], bytes],
        **settings: Any,
    ) -> None:
        super().initialize(
            application,
            idle_connection_timeout=float(rest.idle_timeout),
            body_timeout=float(rest.body_timeout),
            **settings,
        )
        self.room, self.in_hand, self.turns = room, in_hand, Turns()
        self._tls, self._malformed = tls, malformed
        self._timeout = float(rest.handshake_timeout)
        self._listening: list[tuple[socket.socket, Callable[[], None]]] = []
        self._inside: dict[object, Visitor] = {}

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        for listening in sockets:
            ignore = add_accept_handler(listening, self._arrived)
            self._listening.append((listening, ignore))

    def stop(self) -> None:
        """Let nobody in; connections that are there end with the answer to their next request."""
        for listening, ignore in self._listening:
            ignore()
            listening.close()
        self._listening.clear()
        self.conn_params.no_keep_alive = True
        super().stop()

    async def finished(self) -> None:
        """After `stop`: until everybody who had come has been answered, or is gone.

        Whoever was let in here can't be handed to another instance. Who has been answered before
        and is silent now knows that such a connection may end.
        """
        while any(visitor.unanswered for visitor in self.room):
            await asyncio.sleep(LOOK_AGAIN)

    async def close_all_connections(self) -> None:
        self.room.close(Stage.GREETING, Stage.HANDSHAKE)
        await super().close_all_connections()

    def secured(self, plain: socket.socket, peer: Any) -> Stream:
        wrapped = self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        stream = Stream(wrapped)
        stream.peer, stream.malformed = address(*peer[:2]), self._malformed
        return stream

    def enter(self, visitor: Visitor, stream: Stream, peer: Any) -> None:
        self._inside[stream] = visitor
        self.handle_stream(stream, peer)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """A connection waits for its next request: it is idle from now on."""
        visitor = self._inside.get(getattr(request_conn, "stream", None))
        if visitor is not None:
            visitor.requests += 1
            self.room.move(visitor, Stage.OPEN)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        visitor = self._inside.pop(getattr(server_conn, "stream", None), None)
        if visitor is not None:
            self.room.leave(visitor)
        super().on_close(server_conn)

    def _arrived(self, plain: socket.socket, peer: Any) -> None:
        visitor = Visitor(self, plain, peer)
        if self.room.admit(visitor):
            visitor.begin(self._timeout)
        else:
            plain.close()


def record_size(head: bytes) -> int | None:
    """The size of the TLS record that begins so; None: it is none, which OpenSSL is to say."""
    if len(head) < RECORD_HEAD or head[0] != HANDSHAKE_RECORD:
        return None
    length = int.from_bytes(head[3:5])
    return RECORD_HEAD + length if 0 < length <= LONGEST_RECORD else None


def _readable(one: socket.socket | None) -> bool:
    """Whether what it waits for has come, and we have not got round to it."""
    if one is None or one.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(one, select.POLLIN)
    return bool(poll.poll(0))


def _tune(plain: socket.socket) -> None:
    """A peer that is gone, or that takes nothing of what it asked for, is noticed."""
    plain.setblocking(False)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)

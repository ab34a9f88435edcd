"""The way in over plain TCP: who may be connected, and Tornado's HTTP for those.

deliv/http/connections/tls_listener.py puts TLS before it.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate
from tornado.iostream import IOStream
from tornado.netutil import add_accept_handler
from tornado.web import Application

from deliv.config import Rest
from deliv.http.connections.limiter import ConnectionLimiter, Stage
from deliv.ops.addresses import neighbourhood

LOOK_AGAIN = 0.05  # seconds
UNACKNOWLEDGED = 30_000  # milliseconds that a peer may take to accept what it is sent


class Busy(Protocol):
    def serves(self, stream: object) -> bool: ...


class ClientConnection:
    """A connection."""

    def __init__(self, door: Listener, plain: socket.socket, peer: Any) -> None:
        self.host = neighbourhood(peer[0])
        self.stream: IOStream | None = None
        self.requests = -1  # that were answered; -1 until it is in
        self._door, self._socket, self._peer = door, plain, peer

    @property
    def busy(self) -> bool:
        if self.stream is None:
            return readable(self._socket)
        return self._door.in_hand.serves(self.stream) or readable(self.stream.socket)

    @property
    def unanswered(self) -> bool:
        """It came to ask something, and has no answer yet."""
        return self.requests < 1 or self.busy

    def begin(self) -> None:
        tune(self._socket)
        self.enter(IOStream(self._socket))

    def enter(self, stream: IOStream) -> None:
        self.stream = stream
        self._door.enter(self, stream, self._peer)

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()

    def shed(self) -> None:
        """There is no handshake."""


class Listener(HTTPServer):
    """Tornado's server for as many connections as there is room for."""

    in_hand: Busy
    room: ConnectionLimiter

    def initialize(  # type: ignore[override]
        self,
        application: Application,
        *,
        rest: Rest,
        room: ConnectionLimiter,
        in_hand: Busy,
        **settings: Any,
    ) -> None:
        super().initialize(
            application,
            idle_connection_timeout=float(rest.idle_timeout),
            body_timeout=float(rest.body_timeout),
            **settings,
        )
        self.room, self.in_hand = room, in_hand
        self._listening: list[tuple[socket.socket, Callable[[], None]]] = []
        self._inside: dict[object, ClientConnection] = {}

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

    def visitor(self, plain: socket.socket, peer: Any) -> ClientConnection:
        return ClientConnection(self, plain, peer)

    def enter(self, visitor: ClientConnection, stream: IOStream, peer: Any) -> None:
        """From here on HTTP is spoken."""
        self._inside[stream] = visitor
        self.room.move(visitor, Stage.OPEN)
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
        visitor = self.visitor(plain, peer)
        if self.room.admit(visitor):
            visitor.begin()
        else:
            plain.close()


def readable(one: socket.socket | None) -> bool:
    """Whether what it waits for has come, and we have not got round to it."""
    if one is None or one.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(one, select.POLLIN)
    return bool(poll.poll(0))


def tune(plain: socket.socket) -> None:
    """A peer that is gone, or that takes nothing of what it asked for, is noticed."""
    plain.setblocking(False)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)

"""The listener for plain TCP: which connections are admitted, and Tornado's HTTP on them.

deliv/http/connections/tls_listener.py adds TLS.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterable
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate
from tornado.iostream import IOStream
from tornado.netutil import add_accept_handler
from tornado.web import Application

from deliv.config import Rest
from deliv.http.connections.in_flight import InFlight
from deliv.http.connections.limiter import ConnectionLimiter, Stage
from deliv.ops.addresses import neighbourhood

LOOK_AGAIN = 0.05  # seconds
UNACKNOWLEDGED = 30_000  # milliseconds that a client may take to acknowledge what it is sent


class ClientConnection:
    """An accepted connection. `address` is the socket address of its client."""

    def __init__(self, listener: Listener, plain: socket.socket, address: Any) -> None:
        self.host = neighbourhood(address[0])
        self.stream: IOStream | None = None  # None until HTTP is spoken
        self.requests = -1  # that were answered; -1 until HTTP is spoken
        self._listener, self._socket, self._address = listener, plain, address

    @property
    def busy(self) -> bool:
        if self.stream is None:
            return readable(self._socket)
        return self._listener.in_flight.serves(self.stream) or readable(self.stream.socket)

    @property
    def unanswered(self) -> bool:
        """It has not had its first answer, or is being served."""
        return self.requests < 1 or self.busy

    def start(self) -> None:
        tune(self._socket)
        self.start_http(IOStream(self._socket))

    def start_http(self, stream: IOStream) -> None:
        self.stream = stream
        self._listener.start_http(self, stream, self._address)

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()

    def drop_tls(self) -> None:
        """There is none."""


class Listener(HTTPServer):
    """Tornado's server for as many connections as the limiter admits."""

    in_flight: InFlight
    limiter: ConnectionLimiter

    def initialize(  # type: ignore[override]
        self,
        application: Application,
        *,
        rest: Rest,
        limiter: ConnectionLimiter,
        in_flight: InFlight,
        **settings: Any,
    ) -> None:
        super().initialize(
            application,
            idle_connection_timeout=float(rest.idle_timeout),
            body_timeout=float(rest.body_timeout),
            **settings,
        )
        self.limiter, self.in_flight = limiter, in_flight
        self._listening: list[tuple[socket.socket, Callable[[], None]]] = []
        self._by_stream: dict[object, ClientConnection] = {}

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        for listening in sockets:
            stop_accepting = add_accept_handler(listening, self._accept)
            self._listening.append((listening, stop_accepting))

    def stop(self) -> None:
        """Accept no connection; those that there are end with the answer to their next request."""
        for listening, stop_accepting in self._listening:
            stop_accepting()
            listening.close()
        self._listening.clear()
        self.conn_params.no_keep_alive = True
        super().stop()

    async def finished(self) -> None:
        """After `stop`: until every connection has had an answer, or is closed.

        An accepted connection can't be handed to another instance. A client that has been answered
        before and is silent now expects that such a connection may end.
        """
        while any(connection.unanswered for connection in self.limiter):
            await asyncio.sleep(LOOK_AGAIN)

    def connection(self, plain: socket.socket, address: Any) -> ClientConnection:
        return ClientConnection(self, plain, address)

    def start_http(self, connection: ClientConnection, stream: IOStream, address: Any) -> None:
        self._by_stream[stream] = connection
        self.limiter.move(connection, Stage.OPEN)
        self.handle_stream(stream, address)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """A connection waits for its next request: it is idle from now on."""
        connection = self._by_stream.get(getattr(request_conn, "stream", None))
        if connection is not None:
            connection.requests += 1
            self.limiter.move(connection, Stage.OPEN)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        connection = self._by_stream.pop(getattr(server_conn, "stream", None), None)
        if connection is not None:
            self.limiter.remove(connection)
        super().on_close(server_conn)

    def _accept(self, plain: socket.socket, address: Any) -> None:
        connection = self.connection(plain, address)
        if self.limiter.admit(connection):
            connection.start()
        else:
            plain.close()


def readable(one: socket.socket | None) -> bool:
    """Whether data has arrived that this process has not read yet."""
    if one is None or one.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(one, select.POLLIN)
    return bool(poll.poll(0))


def tune(plain: socket.socket) -> None:
    """Notice a client that is gone, or that does not read the answer."""
    plain.setblocking(False)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)

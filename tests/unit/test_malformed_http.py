"""Tornado answers what is not HTTP itself; deliv recognises that answer to replace it."""

from __future__ import annotations

import asyncio

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from deliv.http.connections.tls_listener import BARE_REFUSAL

ENOUGH = 20.0  # seconds


def test_tornados_own_answer_is_recognised() -> None:
    async def answer() -> bytes:
        server = HTTPServer(Application())
        (listening,) = bind_sockets(0, "127.0.0.1")
        server.add_socket(listening)
        try:
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"GARBAGE\r\n\r\n")
            found = await asyncio.wait_for(reader.read(), ENOUGH)
            writer.close()
            await writer.wait_closed()
        finally:
            server.stop()
            await server.close_all_connections()
        return found

    found = asyncio.run(answer())
    assert BARE_REFUSAL.fullmatch(found), (
        f"this Tornado answers what is not HTTP with {found!r}, which HttpsStream.write in "
        "deliv/http/connections/tls_listener.py does not replace by deliv's own answer: adapt "
        "BARE_REFUSAL"
    )


def test_an_answer_of_a_handler_is_left_alone() -> None:
    assert not BARE_REFUSAL.fullmatch(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    assert not BARE_REFUSAL.fullmatch(b"HTTP/1.1 100 (Continue)\r\n\r\n")

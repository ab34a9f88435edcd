"""The HTTPS server: which path is which call, and the sockets."""

from __future__ import annotations

import socket
import ssl

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from deliv.config import Address
from deliv.http.base import Services, UnknownPath
from deliv.http.calls import CancelTransfer, DoneStaging, SubmitTransfer, TransferStatus

DRAINED_BODY = 8 * 2**20  # a body over the limit is read up to this, so that the 413 arrives
IDLE_TIMEOUT = 120.0
BODY_TIMEOUT = 30.0
MAX_HEADER = 16 * 2**10


def application(services: Services) -> Application:
    arguments = {"services": services}
    return Application(
        [
            ("/submitTransfer", SubmitTransfer, arguments),
            ("/transferStatus", TransferStatus, arguments),
            ("/cancelTransfer", CancelTransfer, arguments),
            ("/doneStaging", DoneStaging, arguments),
        ],
        default_handler_class=UnknownPath,
        default_handler_args=arguments,
        log_function=lambda handler: None,  # Call.on_finish logs
    )


def https_server(services: Services, tls: ssl.SSLContext) -> HTTPServer:
    return HTTPServer(
        application(services),
        ssl_options=tls,
        max_body_size=DRAINED_BODY,
        max_header_size=MAX_HEADER,
        idle_connection_timeout=IDLE_TIMEOUT,
        body_timeout=BODY_TIMEOUT,
        no_keep_alive=False,
    )


def listen(address: Address) -> list[socket.socket]:
    return bind_sockets(address.port, address=address.host or None)

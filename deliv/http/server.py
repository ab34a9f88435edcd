"""The HTTPS server: which path is which call, and the sockets."""

from __future__ import annotations

import resource
import socket
import ssl
from typing import Any

import structlog
from tornado.netutil import bind_sockets
from tornado.web import Application

from deliv.config import Address
from deliv.http.call.base import Call, UnknownPath
from deliv.http.call.malformed import MalformedHttp
from deliv.http.connections.limiter import ConnectionLimiter
from deliv.http.connections.tls_listener import TlsListener
from deliv.http.handlers import (
    cancellation,
    delegation,
    description,
    files,
    jobs,
    lists,
    retry,
    submission,
)
from deliv.http.services import Services
from deliv.identity.x509.certificates import costly
from deliv.ops import metrics

log = structlog.get_logger()

READ_HEADER = 2**18  # bytes; for a larger one the connection is closed without a 431
OTHER_FILES = 256  # open files beside the callers' connections
BACKLOG = 1024


def calls() -> list[type[Call[Any]]]:
    """Every call of the modules in deliv/http/handlers; deliv/http/openapi.yaml describes them."""
    return [
        found
        for module in (submission, retry, jobs, cancellation, lists, files, delegation, description)
        for found in vars(module).values()
        if isinstance(found, type) and found.__module__ == module.__name__
        if issubclass(found, Call) and hasattr(found, "path")
    ]


def application(services: Services) -> Application:
    arguments = {"services": services}
    return Application(
        [(call.path, call, arguments) for call in calls()],
        default_handler_class=UnknownPath,
        default_handler_args=arguments,
        log_function=lambda handler: None,  # Call.on_finish logs
    )


def https_server(services: Services, tls: ssl.SSLContext) -> TlsListener:
    rest = services.rest
    limiter = ConnectionLimiter(
        most=allow_files(rest.connections),
        per_host=rest.connections_per_address,
        handshakes=rest.handshakes,
        count=metrics.CONNECTIONS,
    )
    return TlsListener(
        application(services),
        tls=tls,
        rest=rest,
        limiter=limiter,
        in_flight=services.in_flight,
        costly=lambda connection: costly(services.identities.chain(connection)),
        malformed=MalformedHttp(services.identities, services.audit).answer,
        max_header_size=max(READ_HEADER, 2 * rest.header_limit),
    )


def allow_files(connections: int) -> int:
    """Raise this process's limit on open files for so many connections; how many it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        wanted = hard
        log.warning("the limit on open files bounds rest.connections", files=hard)
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(1, min(connections, wanted - OTHER_FILES))


def listen(address: Address) -> list[socket.socket]:
    return bind_sockets(address.port, address=address.host or None, backlog=BACKLOG)

"""The HTTPS server: which path is which call, and the sockets."""

from __future__ import annotations

import resource
import socket
import ssl

import structlog
from tornado.netutil import bind_sockets
from tornado.web import Application

from deliv.config import Address
from deliv.http.call.base import Call, Services, UnknownPath
from deliv.http.call.malformed import Malformed
from deliv.http.connections.limiter import ConnectionLimiter
from deliv.http.connections.tls_listener import TlsListener
from deliv.http.handlers.delegation import Delegated, Entry, ProxyCredential, ProxyRequest, Whoami
from deliv.http.handlers.description import Description
from deliv.http.handlers.jobs import CancelTransfer, DoneStaging, SubmitTransfer, TransferStatus
from deliv.http.handlers.lists import TransferEvents, Transfers
from deliv.identity.x509.certificates import costly
from deliv.ops import metrics

log = structlog.get_logger()

READ_HEADER = 2**18  # what is larger gets no 431 but is cut off
OTHER_FILES = 256  # open files beside the callers' connections
BACKLOG = 1024


def calls() -> list[tuple[str, type[Call]]]:
    """Which path is which call; deliv/http/openapi.yaml describes them."""
    return [
        ("/submitTransfer", SubmitTransfer),
        ("/transferStatus", TransferStatus),
        ("/cancelTransfer", CancelTransfer),
        ("/doneStaging", DoneStaging),
        ("/transfers", Transfers),
        ("/transferEvents", TransferEvents),
        ("/openapi.yaml", Description),
        # FTS's clients put two slashes before a path.
        ("/+", Entry),
        ("/+whoami", Whoami),
        ("/+delegation/([^/]+)", Delegated),
        ("/+delegation/([^/]+)/request", ProxyRequest),
        ("/+delegation/([^/]+)/credential", ProxyCredential),
    ]


def application(services: Services) -> Application:
    arguments = {"services": services}
    return Application(
        [(path, call, arguments) for path, call in calls()],
        default_handler_class=UnknownPath,
        default_handler_args=arguments,
        log_function=lambda handler: None,  # Call.on_finish logs
    )


def https_server(services: Services, tls: ssl.SSLContext) -> TlsListener:
    rest = services.rest
    room = ConnectionLimiter(
        most=allow_files(rest.connections),
        per_host=rest.connections_per_address,
        handshakes=rest.handshakes,
        count=metrics.CONNECTIONS,
    )
    return TlsListener(
        application(services),
        tls=tls,
        rest=rest,
        room=room,
        in_hand=services.in_hand,
        costly=lambda connection: costly(services.identities.chain(connection)),
        malformed=Malformed(services.identities, services.audit).answer,
        max_header_size=max(READ_HEADER, 2 * rest.header_limit),
    )


def allow_files(connections: int) -> int:
    """Have this process hold so many connections open; how many the system lets it."""
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

"""The issuer's HTTPS interface: POST /token, GET /jwks, and its metadata (RFC 8414)."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from typing import Any, cast
from urllib.parse import parse_qsl

from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from deliv_testbed.issuer.grants import GrantError, Grants
from deliv_testbed.issuer.keys import KeyRing
from deliv_testbed.issuer.settings import Settings

log = logging.getLogger("deliv_testbed.issuer")

BODY_LIMIT = 16 * 2**10
METADATA = "/.well-known/oauth-authorization-server"


class Handler(RequestHandler):
    def set_default_headers(self) -> None:
        self.clear_header("Server")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish({"error": "invalid_request"})


class TokenHandler(Handler):
    def initialize(self, grants: Grants) -> None:
        self._grants = grants

    def post(self) -> None:
        self.set_header("Cache-Control", "no-store")
        form = dict(parse_qsl(self.request.body.decode("utf-8", "replace")))
        try:
            answer = self._grants.grant(form, self._certificate())
        except GrantError as error:
            self.set_status(error.status)
            answer = {"error": error.code, "error_description": error.description}
        outcome = answer.get("error", "granted")
        log.info("token for %r: %s", form.get("client_id", ""), outcome)
        self.finish(answer)

    def _certificate(self) -> bytes | None:
        connection = cast("HTTP1Connection", self.request.connection)
        return cast("ssl.SSLSocket", connection.stream.socket).getpeercert(binary_form=True)


class DocumentHandler(Handler):
    def initialize(self, document: Any) -> None:
        self._document = document

    def get(self) -> None:
        self.finish(self._document())


def application(settings: Settings, keys: KeyRing) -> Application:
    return Application(
        [
            ("/token", TokenHandler, {"grants": Grants(settings, keys)}),
            ("/jwks", DocumentHandler, {"document": keys.jwks}),
            (METADATA, DocumentHandler, {"document": lambda: metadata(settings.issuer)}),
        ]
    )


def metadata(issuer: str) -> dict[str, object]:
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/jwks",
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["tls_client_auth"],
        "tls_client_certificate_bound_access_tokens": True,
    }


def server_context(settings: Settings) -> ssl.SSLContext:
    """A client certificate is verified where one is shown: the keys are for everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.load_verify_locations(capath=settings.ca_directory)
    context.load_cert_chain(settings.certificate, settings.key)
    return context


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP changes the key."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = KeyRing(
        settings.state / "keys.json",
        lifetime=settings.lifetime,
        rotate_every=settings.rotate_every,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, keys.rotate)
    server = HTTPServer(
        application(settings, keys), ssl_options=server_context(settings), max_body_size=BODY_LIMIT
    )
    server.listen(settings.port, settings.host)
    log.info("listening on %s:%d", settings.host, settings.port)
    await stop.wait()
    server.stop()
    await server.close_all_connections()

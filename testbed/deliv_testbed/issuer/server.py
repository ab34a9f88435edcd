"""The issuer's HTTPS interface: POST /token, GET /jwks, and its metadata (RFC 8414)."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from typing import Any
from urllib.parse import parse_qsl

from tornado.web import Application, RequestHandler

from deliv_testbed.issuer.grants import GrantError, Grants
from deliv_testbed.issuer.keys import KeyRing
from deliv_testbed.issuer.settings import IssuerSettings
from deliv_testbed.serving import listening, stop_signal
from deliv_testbed.tls import client_certificate, server_context, stream_of

log = logging.getLogger("deliv_testbed.issuer")

BODY_LIMIT = 16 * 2**10
METADATA = "/.well-known/oauth-authorization-server"


class IssuerHandler(RequestHandler):
    def set_default_headers(self) -> None:
        self.clear_header("Server")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish({"error": "invalid_request"})


class TokenHandler(IssuerHandler):
    def initialize(self, grants: Grants) -> None:
        self._grants = grants

    def post(self) -> None:
        self.set_header("Cache-Control", "no-store")
        form = dict(parse_qsl(self.request.body.decode("utf-8", "replace")))
        try:
            answer = self._grants.grant(form, client_certificate(stream_of(self.request)))
        except GrantError as error:
            self.set_status(error.status)
            answer = {"error": error.code, "error_description": error.description}
        outcome = answer.get("error", "granted")
        log.info("token for %r: %s", form.get("client_id", ""), outcome)
        self.finish(answer)


class DocumentHandler(IssuerHandler):
    def initialize(self, document: Any) -> None:
        self._document = document

    def get(self) -> None:
        self.finish(self._document())


def application(settings: IssuerSettings, keys: KeyRing) -> Application:
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


async def serve(settings: IssuerSettings) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP changes the key."""
    stop = stop_signal()
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = KeyRing(
        settings.state / "keys.json",
        lifetime=settings.lifetime,
        rotate_every=settings.rotate_every,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, keys.rotate)
    # The keys are public; a token needs a certificate.
    context = server_context(settings, ssl.CERT_OPTIONAL)
    async with listening(application(settings, keys), settings, context, max_body_size=BODY_LIMIT):
        await stop.wait()

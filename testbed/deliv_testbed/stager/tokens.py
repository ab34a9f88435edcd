"""The access token of the callbacks: from its issuer, kept for most of its lifetime."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from deliv_testbed.stager.settings import TokenSettings

TIMEOUT = 10.0
LATE = 0.2  # the share of its lifetime that a token must have left to be used


class NoToken(Exception):
    """The issuer can't be reached, or gives none: to be tried again."""


class Tokens:
    """Asks by the client credentials grant; the client certificate is in `context`."""

    def __init__(self, settings: TokenSettings, context: ssl.SSLContext) -> None:
        self._settings = settings
        self._context = context
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=1)
        self._lock = asyncio.Lock()
        self._token, self._until = "", float("-inf")

    async def current(self) -> str:
        async with self._lock:
            asked = time.monotonic()
            if asked >= self._until:
                answer = await self._ask()
                try:
                    self._token = str(answer["access_token"])
                    self._until = asked + float(answer["expires_in"]) * (1 - LATE)
                except (KeyError, TypeError, ValueError) as error:
                    raise NoToken(f"the issuer gave no token: {answer}") from error
            return self._token

    def forget(self) -> None:
        """Ask for another one the next time."""
        self._token, self._until = "", float("-inf")

    def close(self) -> None:
        self._client.close()

    async def _ask(self) -> dict[str, Any]:
        wanted = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            "scope": self._settings.scope,
            "resource": self._settings.audience,
        }
        request = HTTPRequest(
            self._settings.url,
            method="POST",
            body=urlencode(wanted),
            ssl_options=self._context,
            follow_redirects=False,
            request_timeout=TIMEOUT,
        )
        try:
            answer = await self._client.fetch(request, raise_error=False)
            document: dict[str, Any] = json.loads(answer.body or b"")
        except (HTTPClientError, OSError, ValueError) as error:
            raise NoToken(f"the issuer of tokens: {error or type(error).__name__}") from error
        return document

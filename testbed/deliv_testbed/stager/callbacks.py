"""The callback to deliv: /doneStaging, form-encoded as on the prototype's page.

With an access token, where there is an issuer for it.
"""

from __future__ import annotations

import secrets
import ssl
from urllib.parse import urlencode

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from deliv_testbed.stager.faults import faults_of
from deliv_testbed.stager.register import Staging, State
from deliv_testbed.stager.tokens import NoToken, Tokens

CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 30.0
QUEUED = 10_000.0


class Unanswered(Exception):
    """deliv can't be reached or can't answer now, or there is no token: to be tried again."""


class Callbacks:
    """at most `calls` run at once; `gridftp` is HOST:PORT, `path` the staging area on it."""

    def __init__(
        self,
        context: ssl.SSLContext,
        calls: int,
        gridftp: str,
        path: str,
        tokens: Tokens | None = None,
    ) -> None:
        self._context = context
        self._tokens = tokens
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=calls)
        self._gridftp = gridftp
        self._path = path

    async def report(self, staging: Staging) -> list[int]:
        """Make the calls due for a finished staging: the statuses answered, or Unanswered."""
        answers = []
        for code in codes(staging):
            token = await self._token()
            if token and faults_of(staging.product_id).badtoken:
                answers.append(await self._call(staging, code, tampered(token)))
            answers.append(await self._call(staging, code, token))
        return answers

    def form(self, staging: Staging, code: str) -> dict[str, str]:
        """The fields of one callback."""
        fields = {
            "job_id": staging.job_id,
            "product_id": staging.product_id,
            "authcode": code,
            "success": "false",
            "msg": staging.msg or "",
        }
        if staging.state is State.STAGED:
            fields |= {
                "success": "true",
                "staged_to": self._gridftp,
                "path": f"{self._path.rstrip('/')}/{staging.job_id}/{staging.name}",
                "size": str(staging.size),
                "checksum": staging.checksum or "",
            }
        return fields

    def close(self) -> None:
        self._client.close()
        if self._tokens:
            self._tokens.close()

    async def _token(self) -> str | None:
        try:
            return await self._tokens.current() if self._tokens else None
        except NoToken as error:
            raise Unanswered(str(error)) from error

    async def _call(self, staging: Staging, code: str, token: str | None) -> int:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = HTTPRequest(
            staging.callback,
            method="POST",
            headers=headers,
            body=urlencode(self.form(staging, code)),
            ssl_options=self._context,
            follow_redirects=False,
            connect_timeout=CONNECT_TIMEOUT,
            request_timeout=REQUEST_TIMEOUT,
        )
        try:
            answer = await self._client.fetch(request, raise_error=False)
        except (HTTPClientError, OSError) as error:
            raise Unanswered(str(error) or type(error).__name__) from error
        if answer.code >= 500 or answer.code == 429:
            raise Unanswered(f"deliv answered {answer.code}")
        if self._tokens and answer.code in {401, 403}:
            self._tokens.forget()  # it may have been the token
        return answer.code


def tampered(token: str) -> str:
    """The token with claims that its signature is not for."""
    head, claims, signature = token.split(".")
    return f"{head}.{claims[::-1]}.{signature}"


def codes(staging: Staging) -> list[str]:
    """The codes to call back with, in order, as the product id's faults require."""
    faults = faults_of(staging.product_id)
    wrong = [secrets.token_hex(16)] if faults.badcode else []
    return wrong + [staging.authcode] * (2 if faults.twice else 1)

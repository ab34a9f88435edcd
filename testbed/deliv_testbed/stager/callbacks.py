"""The callback to deliv: /doneStaging, with an access token where there is an issuer for it."""

from __future__ import annotations

import secrets
import ssl

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from deliv_testbed.stager.faults import faults_of
from deliv_testbed.stager.register import Staging
from deliv_testbed.stager.reports import Reports
from deliv_testbed.stager.tokens import NoToken, Tokens

CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 30.0
MANY_TIMEOUT = 300.0  # deliv stores many files before it answers


class Unanswered(Exception):
    """deliv can't be reached or can't answer now, or there is no token: to be tried again."""


class Callbacks:
    """At most `calls` run at once."""

    def __init__(
        self,
        context: ssl.SSLContext,
        calls: int,
        reports: Reports,
        tokens: Tokens | None = None,
    ) -> None:
        self._context = context
        self._tokens = tokens
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=calls)
        self._reports = reports

    async def report(self, staging: Staging) -> list[int]:
        """Make the calls due for a finished staging: the statuses answered, or Unanswered."""
        answers = []
        for code in codes(staging):
            token = await self._token()
            if token and faults_of(staging.product_id).badtoken:
                answers.append(await self._call(staging, code, tampered(token)))
            answers.append(await self._call(staging, code, token))
        return answers

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
        try:
            report = self._reports.report(staging, code)
            headers = {"Content-Type": report.content_type, "Content-Length": str(report.size)}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            request = HTTPRequest(
                staging.callback,
                method="POST",
                headers=headers,
                body_producer=report.produce,  # type: ignore[arg-type]  # what `write` gives is awaited
                ssl_options=self._context,
                follow_redirects=False,
                connect_timeout=CONNECT_TIMEOUT,
                request_timeout=MANY_TIMEOUT if report.listing else REQUEST_TIMEOUT,
            )
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

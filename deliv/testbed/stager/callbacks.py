"""The callback to deliv: /doneStaging, form-encoded as on the prototype's page."""

from __future__ import annotations

import secrets
import ssl
from urllib.parse import urlencode

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from deliv.testbed.stager.faults import plan
from deliv.testbed.stager.register import Staging, State

CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 30.0
QUEUED = 10_000.0


class Unanswered(Exception):
    """deliv can't be reached or says that it can't answer now; worth another try."""


class Callbacks:
    """`calls` at most go on at once; `gridftp` is HOST:PORT, `path` the staging area on it."""

    def __init__(self, context: ssl.SSLContext, calls: int, gridftp: str, path: str) -> None:
        self._context = context
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=calls)
        self._gridftp = gridftp
        self._path = path

    async def report(self, staging: Staging) -> list[int]:
        """Make the calls due for a finished staging: the statuses answered, or Unanswered."""
        return [await self._call(staging, code) for code in codes(staging)]

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

    async def _call(self, staging: Staging, code: str) -> int:
        request = HTTPRequest(
            staging.callback,
            method="POST",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
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
        return answer.code


def codes(staging: Staging) -> list[str]:
    """The codes to call back with, in order, as the product id's faults want it."""
    faults = plan(staging.product_id)
    wrong = [secrets.token_hex(16)] if faults.badcode else []
    return wrong + [staging.authcode] * (2 if faults.twice else 1)

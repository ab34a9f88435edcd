"""Calls to one FTS server: its URL, time-out and circuit breaker; what its answers mean."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, TypeVar

from deliv.errors import DelegationNeeded, Refused, Unreachable
from deliv.fts.answers import read
from deliv.fts.breaker import Breaker
from deliv.https import HttpsClient, Response

AUTHENTICATION_TIMEOUT = 419

T = TypeVar("T")


class Transport:
    """`timeout` in seconds for each call."""

    def __init__(
        self, name: str, url: str, https: HttpsClient, timeout: float, breaker: Breaker
    ) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.breaker = breaker
        self._https = https
        self._timeout = timeout

    @property
    def credential(self) -> tuple[bytes, bytes]:
        """deliv's certificate with its chain, and its key, both PEM."""
        return self._https.credential

    @property
    def credential_version(self) -> int:
        return self._https.credential_version

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Response:
        """FTS's answer, whatever its code below 500.

        Unreachable when there is none, for a server error or too many requests, and at once while
        the breaker is open.
        """
        if not self.breaker.enter():
            reason = f"FTS {self.name} is left alone after failures: {self.breaker.reason}"
            raise Unreachable(reason, retry_after=round(self.breaker.wait) + 1, sent=False)
        try:
            answer = await self._answer(method, path, body, content_type)
        except Unreachable as error:
            self.breaker.failed(str(error))
            raise
        except asyncio.CancelledError:
            self.breaker.failed(f"FTS {self.name} had not answered when it was given up")
            raise
        self.breaker.succeeded()
        return answer

    async def get(self, path: str, kind: type[T]) -> T:
        """What a GET that has to succeed answers; Refused when it does not."""
        answer = await self.call("GET", path)
        if answer.status != HTTPStatus.OK:
            raise refusal(self.name, answer)
        return read(answer, kind)

    async def _answer(
        self, method: str, path: str, body: bytes | None, content_type: str | None
    ) -> Response:
        answer = await self._https.request(
            method,
            self.url + path,
            body=body,
            content_type=content_type,
            timeout=self._timeout,
        )
        if answer.status >= 500 or answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Unreachable(f"FTS {self.name} answered {answer.status}: {message(answer)}")
        return answer


def refusal(name: str, answer: Response) -> Refused | Unreachable:
    """The error that an answer other than success stands for.

    Only FTS itself refuses, in JSON; another answer comes from something in front of it.
    """
    text = f"FTS {name} answered {answer.status}: {message(answer)}"
    if not is_fts(answer):
        return Unreachable(text)
    if answer.status == AUTHENTICATION_TIMEOUT:
        return DelegationNeeded(text, code=answer.status)
    return Refused(text, code=answer.status)


def message(answer: Response) -> str:
    """The sentence in either of FTS's two JSON shapes, or the kind of answer it is instead."""
    document = _document(answer)
    if isinstance(document, dict):
        text = document.get("message") or document.get("http_message")
        return str(text or "no reason given")
    return f"{answer.headers.get('Content-Type', 'no content')}, not the JSON of FTS"


def is_fts(answer: Response) -> bool:
    return isinstance(_document(answer), dict | list)


def _document(answer: Response) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError:
        return None

"""HTTPS calls to deliv, repeated while it does not answer: every call is safe to repeat."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deliv.client.credentials import CallerCredential, tls_context
from deliv.client.errors import (
    BadAnswer,
    SetupError,
    Unavailable,
    Unreachable,
    answered,
)
from deliv.client.tls_errors import explain

LARGEST_ANSWER = 16 * 2**20
SHORTEST_PAUSE, FIRST_PAUSE, LONGEST_PAUSE = 0.1, 0.5, 10.0
LONGEST_RETRY_AFTER = 60.0

Notice = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """An HTTP answer; `document` is its JSON, `retry_after` in seconds."""

    status: int
    document: dict[str, Any]
    retry_after: float | None


class ClientTransport:
    """One connection to one server, kept open between calls. Not for several threads at once.

    Every new connection reads the credential's files again: a proxy may have been renewed.
    `timeout` bounds each wait for the network, in seconds. `notice` is called with a line for every
    failed try.
    """

    def __init__(
        self, url: str, credential: CallerCredential, ca: Path, *, timeout: float, notice: Notice
    ) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 443
        except ValueError as error:
            raise SetupError(f"{url!r} is no URL: {error}") from error
        if parts.scheme != "https" or not host or "@" in parts.netloc or parts.query:
            raise SetupError(f"{url!r} is not deliv's address: it must be https://HOST[:PORT]")
        if not _can_be_host(host):
            raise SetupError(f"{url!r} is not deliv's address: {host!r} is no host name")
        self.server = f"https://{parts.netloc}"
        self._prefix, self._host, self._port = parts.path.rstrip("/"), host, port
        self._credential = credential
        self._ca = ca
        self._timeout = timeout
        self._notice = notice
        self._open: http.client.HTTPSConnection | None = self._connection()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float,
    ) -> HttpAnswer:
        """The answer to a call, if a good one; else the error for it.

        A server that is out of reach or busy is tried again for `patience` seconds.
        """
        deadline, pause = time.monotonic() + patience, FIRST_PAUSE
        while True:
            try:
                answer = self._try(method, self._prefix + path, body, headers or {})
                if answer.status in {200, 202}:
                    return answer
                msg = str(answer.document.get("msg", "no reason given"))
                raise answered(answer.status, msg, answer.retry_after)
            except (Unreachable, Unavailable) as error:
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311  jitter
                if isinstance(error, Unavailable) and error.retry_after is not None:
                    wait = max(SHORTEST_PAUSE, error.retry_after)
                if time.monotonic() + wait > deadline:
                    raise
                self._notice(f"{str(error).rstrip('.')}; trying again")
            time.sleep(wait)
            pause = min(LONGEST_PAUSE, pause * 2)

    def close(self) -> None:
        if self._open:
            self._open.close()
        self._open = None

    def _connection(self) -> http.client.HTTPSConnection:
        context = tls_context(self._credential, self._ca)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=context
        )

    def _try(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> HttpAnswer:
        """One call; when the server has closed a kept connection, another on a fresh one."""
        kept = self._open is not None and self._open.sock is not None
        try:
            return self._exchange(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if kept and not isinstance(error, TimeoutError):
                return self._try(method, path, body, headers)
            if isinstance(error, OSError):
                raise explain(error, self.server, self._ca) from error
            if isinstance(error, http.client.IncompleteRead):
                raise Unreachable(f"{self.server} broke off in the middle of its answer") from error
            raise BadAnswer(f"{self.server} does not speak HTTP as expected: {error!r}") from error

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> HttpAnswer:
        connection = self._open = self._open or self._connection()
        try:
            connection.request(method, path, body, dict(headers))
        except (BrokenPipeError, ConnectionResetError):
            if connection.sock:
                connection.sock.recv(1)  # raises the alert that says why, if there is one
            raise
        response = connection.getresponse()
        # `read` with an amount notices a body that broke off only where it comes in chunks.
        content = response.read(LARGEST_ANSWER)
        if response.length and len(content) < LARGEST_ANSWER:
            raise http.client.IncompleteRead(content, response.length)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            if response.status < 500:
                answer = f"{self.server} answered {response.status}"
                raise BadAnswer(f"{answer}, but not as deliv does: check the URL")
            document = {"msg": f"{self.server} has a fault"}
        retry_after = _seconds(response.getheader("Retry-After"))
        return HttpAnswer(status=response.status, document=document, retry_after=retry_after)


def _can_be_host(host: str) -> bool:
    """Whether the system can be asked for it: http.client and socket raise errors of their own."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return host.isprintable() and " " not in host


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds, within reason; None when it is absent or a date."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(float(text), LONGEST_RETRY_AFTER)

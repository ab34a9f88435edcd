"""Calls to one FTS server, and what its refusals mean."""

from __future__ import annotations

import math
import time
from http import HTTPStatus
from typing import TypeVar

from deliv.errors import DelegationNeeded, Refused, Unreachable
from deliv.gateways.breaker import Breaker
from deliv.gateways.fts.answers import read
from deliv.gateways.https import HttpsClient, Response
from deliv.gateways.upstream import Upstream, error_message
from deliv.ops import metrics

AUTHENTICATION_TIMEOUT = 419

T = TypeVar("T")


# On a web page, of which FTS writes no others: its operators have banned who calls.
BAN = "The user has been banned"


class FtsTransport(Upstream):
    """`timeout` in seconds for each call. `of_user`: calls are made under a user's identity.

    A user whom FTS has banned is refused; with deliv itself banned FTS is out.
    """

    def __init__(
        self,
        name: str,
        url: str,
        https: HttpsClient,
        timeout: float,
        breaker: Breaker,
        purpose: str = "",
        *,
        of_user: bool = False,
    ) -> None:
        super().__init__(f"FTS {name}", url, https, timeout, breaker, purpose)
        self.name = name
        self._of_user = of_user
        self._served = -math.inf

    @property
    def credential(self) -> tuple[bytes, bytes]:
        """deliv's certificate with its chain, and its key, both PEM."""
        return self.https.credential

    @property
    def credential_version(self) -> int:
        return self.https.credential_version

    @property
    def served_ago(self) -> float:
        """Seconds since FTS did what deliv asked for; infinite when it did not the last time."""
        return math.inf if self.breaker.failing else time.monotonic() - self._served

    async def get(self, path: str, kind: type[T]) -> T:
        """What a GET that has to succeed answers; Refused when it does not."""
        answer = await self.call("GET", path)
        if answer.status != HTTPStatus.OK:
            raise refusal(self.name, answer)
        return read(answer, kind)

    def _check(self, answer: Response) -> None:
        metrics.FTS_CALLS.labels(endpoint=self.name).inc()
        if not (self._of_user and is_ban(answer)):
            super()._check(answer)
        # FTS sends a list while it reads it: when its database fails then, it is still a 200.
        body = answer.body.strip()
        if body.startswith(b"[") and not body.endswith(b"]"):
            raise Unreachable(f"{self.title} answered {answer.status} and broke off its list")
        served = answer.status < HTTPStatus.BAD_REQUEST
        self._served = time.monotonic() if served else -math.inf


def refusal(name: str, answer: Response) -> Refused | Unreachable:
    """The error that an answer other than success stands for.

    Only FTS itself refuses, in JSON but for bans; another answer comes from something in front.
    """
    text = f"FTS {name} answered {answer.status}: {error_message(answer)}"
    if is_ban(answer):
        return Refused(f"FTS {name} answered {answer.status}: {BAN}", code=answer.status)
    if not is_fts(answer):
        return Unreachable(text)
    if answer.status == AUTHENTICATION_TIMEOUT:
        return DelegationNeeded(text, code=answer.status)
    return Refused(text, code=answer.status)


def is_ban(answer: Response) -> bool:
    return answer.status == HTTPStatus.FORBIDDEN and BAN in error_message(answer)


def is_fts(answer: Response) -> bool:
    return isinstance(answer.document, dict | list)

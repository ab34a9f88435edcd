"""The issuer of the stager's access tokens: its keys, fetched over HTTPS and kept a while.

    issuer = Issuer(settings, ca_directory)
    token = await issuer.check(text, identity.thumbprint)

A token signed with an unknown key makes the keys be fetched again, but not more often than every
BETWEEN seconds, whatever key ids callers invent: who comes too early waits, and many wait for one
answer. While the issuer is down its last keys are used until they are too old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from deliv import config
from deliv.errors import Unavailable
from deliv.gateways.https import HttpsClient
from deliv.identity.tokens import Keys, Token, TokenChecker

log = structlog.get_logger()

BETWEEN = 5.0  # seconds from one question to the next; also the time an answer may take
LARGEST = 256 * 2**10  # bytes of a JWK Set
NEVER = float("-inf")


class Issuer:
    """`clock` counts seconds."""

    def __init__(
        self,
        settings: config.CallbackToken,
        ca_directory: Path,
        *,
        between: float = BETWEEN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._https = HttpsClient(
            None, ca_directory, ca_file=settings.ca_file, max_clients=1, max_body=LARGEST
        )
        self._settings = settings
        self._checker = TokenChecker(settings)
        self._between = between
        self._clock = clock
        self._lock = asyncio.Lock()
        self._keys: Keys | None = None
        self._fetched = self._asked = NEVER
        self._failure: str | None = None

    async def check(self, token: str, thumbprint: str) -> Token:
        """The token when it is good, and bound to that certificate if to any.

        TokenRefused when it isn't; Unavailable when the keys to check it with can't be fetched.
        """
        kid = self._checker.key_id(token)
        keys = await self._current()
        if kid not in keys.by_id:
            await self._ask(since=self._clock())
            if self._keys is None or self._failure:
                raise self._unavailable()
            keys = self._keys
        return self._checker.check(token, keys, thumbprint=thumbprint)

    async def probe(self) -> str:
        """For readiness: one sentence while the keys are fresh; else Unavailable."""
        keys = await self._current()
        if self._failure:
            raise Unavailable(f"goes on with the keys it has: {self._failure}")
        return f"has {len(keys.by_id)} keys"

    def close(self) -> None:
        self._https.close()

    async def _current(self) -> Keys:
        """The keys, fetched again when they are not fresh."""
        now = self._clock()
        if now - self._fetched > self._settings.refresh:
            await self._ask(since=now - self._between)
        if self._keys is None or self._clock() - self._fetched > self._settings.keep:
            raise self._unavailable()
        return self._keys

    async def _ask(self, since: float) -> None:
        """See that the issuer was asked at or after `since`; a failure is noted."""
        async with self._lock:
            if self._asked >= since:
                return
            await asyncio.sleep(max(0.0, self._asked + self._between - self._clock()))
            self._asked = self._clock()
            try:
                keys = await self._fetch()
            except Unavailable as error:
                if self._failure is None:
                    log.warning("the issuer's keys can't be fetched", reason=str(error))
                self._failure = str(error)
                return
            if self._keys is None or keys.by_id.keys() != self._keys.by_id.keys():
                log.info("the issuer's keys", kids=sorted(keys.by_id), unused=keys.unused)
            self._keys, self._fetched, self._failure = keys, self._asked, None

    async def _fetch(self) -> Keys:
        url = self._settings.jwks_url
        answer = await self._https.request("GET", url, timeout=self._between)
        if answer.status != 200:
            raise Unavailable(f"{url} answered {answer.status}")
        try:
            return Keys.parse(answer.body)
        except ValueError as error:
            raise Unavailable(f"{url} answered with something else: {error}") from error

    def _unavailable(self) -> Unavailable:
        return Unavailable(
            "the keys that access tokens are checked with can't be fetched just now: try again",
            retry_after=round(self._between),
        )

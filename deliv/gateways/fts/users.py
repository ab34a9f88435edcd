"""FTS under the identity of users who have delegated: an Endpoint for each, with their proxy."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deliv import config
from deliv.gateways.breaker import Breaker
from deliv.gateways.fts.client import Endpoint
from deliv.gateways.https import HeldCredential, HttpsClient

MOST = 256  # users and servers whose connections are kept; beyond them the least lately used go
IDLE = 300.0  # seconds; keys that are not in use are not kept in memory


@dataclass(kw_only=True)
class _UserSession:
    credential: HeldCredential
    https: HttpsClient
    endpoint: Endpoint
    used: float


class UserEndpoints:
    """A breaker of its own for each: one user's bad credential says nothing of the server."""

    def __init__(
        self,
        settings: config.FtsSettings,
        ca_directory: Path,
        clock: Callable[[], float] = time.monotonic,
        make: Callable[..., Endpoint] = Endpoint,
    ) -> None:
        self._make = make
        self._clock = clock
        self._settings = settings
        self._ca_directory = ca_directory
        self._sessions: OrderedDict[tuple[str, str], _UserSession] = OrderedDict()

    def get(self, name: str, user: str, credential: HeldCredential) -> Endpoint:
        """The endpoint `name` as the DN `user` sees it, who may have delegated again."""
        known = self._sessions.get((name, user))
        if known is None or known.credential != credential:
            self.forget(name, user)
            known = self._sessions[name, user] = self._open(name, credential)
        known.used = self._clock()
        self._sessions.move_to_end((name, user))
        while len(self._sessions) > MOST:
            self.forget(*next(iter(self._sessions)))
        return known.endpoint

    def forget(self, name: str, user: str) -> None:
        """Drop a user's credential and connections."""
        known = self._sessions.pop((name, user), None)
        if known is not None:
            known.https.close()

    def tidy(self) -> None:
        """Drop the credentials that have expired, or were not used for a while."""
        now, idle = datetime.now(UTC), self._clock() - IDLE
        for key, known in list(self._sessions.items()):
            if known.credential.expires <= now or known.used < idle:
                self.forget(*key)

    def close(self) -> None:
        for name, user in list(self._sessions):
            self.forget(name, user)

    def _open(self, name: str, credential: HeldCredential) -> _UserSession:
        https = HttpsClient(credential, self._ca_directory, max_clients=2)
        url = self._settings.endpoints[name]
        endpoint = self._make(name, url, self._settings, https, Breaker(), True)
        return _UserSession(
            credential=credential, https=https, endpoint=endpoint, used=self._clock()
        )

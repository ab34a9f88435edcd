"""The FTS servers of the configuration, in its order of preference."""

from __future__ import annotations

import time
from collections.abc import Callable

from deliv import config
from deliv.errors import Unavailable
from deliv.fts.breaker import Breaker, State
from deliv.fts.client import Endpoint
from deliv.https import HttpsClient


class Fts:
    def __init__(
        self,
        settings: config.Fts,
        https: HttpsClient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoints = tuple(
            Endpoint(name, url, settings, https, Breaker(clock=clock))
            for name, url in settings.endpoints.items()
        )
        self._by_name = {endpoint.name: endpoint for endpoint in self.endpoints}

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint a job was given to; Unavailable once it has left the configuration."""
        try:
            return self._by_name[name]
        except KeyError:
            raise Unavailable(f"the FTS endpoint {name} is not configured any more") from None

    def choose(self) -> Endpoint | None:
        """For a new copy: the first that works, else one worth a try, else None."""
        working = (e for e in self.endpoints if e.breaker.state is State.CLOSED)
        return next(working, None) or next((e for e in self.endpoints if e.breaker.ready), None)

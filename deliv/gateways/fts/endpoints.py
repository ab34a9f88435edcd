"""The FTS servers of the configuration, in its order of preference."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from deliv import config
from deliv.errors import Refused, Unavailable
from deliv.gateways.breaker import Breaker, BreakerState
from deliv.gateways.fts.client import Endpoint
from deliv.gateways.https import HttpsClient
from deliv.ops import metrics


class Fts:
    def __init__(
        self,
        settings: config.FtsSettings,
        https: HttpsClient,
        clock: Callable[[], float] = time.monotonic,
        make: Callable[..., Endpoint] = Endpoint,
    ) -> None:
        self.endpoints = tuple(
            make(name, url, settings, https, Breaker(clock=clock))
            for name, url in settings.endpoints.items()
        )
        self._by_name = {endpoint.name: endpoint for endpoint in self.endpoints}
        for endpoint in self.endpoints:
            metrics.FTS_UNUSABLE_ANSWERS.labels(endpoint=endpoint.name)
            for state in BreakerState:
                metric = metrics.FTS_BREAKER.labels(endpoint=endpoint.name, state=state.value)
                metric.set_function(partial(endpoint.breaker.is_in, state))

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint a job was given to; Unavailable once it has left the configuration."""
        try:
            return self._by_name[name]
        except KeyError:
            raise Unavailable(f"the FTS endpoint {name} is not configured any more") from None

    async def choose(self) -> Endpoint:
        """For a new copy: the first that is ready, those that failed lately asked last.

        A copy stays with the server it was submitted to, so none goes to one that is down.
        Unavailable, with the reason of each, when there is none.
        """
        by_health = sorted(self.endpoints, key=lambda e: e.breaker.state is not BreakerState.CLOSED)
        reasons = []
        for endpoint in by_health:
            try:
                await endpoint.check_ready()
            except (Unavailable, Refused) as error:
                reasons.append(str(error))
            else:
                return endpoint
        raise Unavailable("; ".join(reasons))

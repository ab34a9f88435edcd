"""The limits on each caller's requests: how many a second, and how many at once."""

from __future__ import annotations

import asyncio
from math import ceil

from deliv.http.call.errors import Throttled
from deliv.http.services import Services
from deliv.ops import metrics

DELAY = 1.0  # seconds until a throttled request is answered


async def throttle(services: Services, request: object, caller: str) -> None:
    """Count the request as the caller's; Throttled when that is one too many.

    The refusal comes late: so a client that repeats it at once costs others little.
    """
    rest = services.rest
    wait = services.rate.take(caller)
    at_once = services.in_flight.assign(request, caller)
    if not wait and at_once <= rest.requests_at_once:
        return
    metrics.THROTTLED.inc()
    services.in_flight.remove(request)  # its connection may be closed in favour of a new one
    await asyncio.sleep(DELAY)
    exceeded = f"{rest.requests_per_second:g} requests a second" if wait else ""
    exceeded = exceeded or f"{rest.requests_at_once} requests at once"
    raise Throttled(f"more than {exceeded} from you: wait", ceil(max(wait, DELAY)))

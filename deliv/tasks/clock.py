"""The database's clock is watched: each instance notes its time, and whichever sees a step says so.

Steps ahead are seen wherever the time counts: see deliv/db/clock.py.
"""

from __future__ import annotations

import structlog

from deliv.ops import metrics
from deliv.store import Store

log = structlog.get_logger()


class ClockWatch:
    """`hold`: for how many seconds a worker or a relay keeps what it has claimed."""

    def __init__(self, store: Store, hold: float) -> None:
        self._store = store
        self._hold = hold

    async def note_once(self) -> None:
        seconds = await self._store.note_time(self._hold)
        if seconds:
            metrics.CLOCK_STEPS.labels(direction="back").inc()
            log.warning("the database's clock has stepped back", seconds=round(seconds, 1))

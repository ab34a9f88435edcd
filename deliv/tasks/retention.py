"""Retention: what is over moves to the archive, is forgotten in the end, and the outbox trimmed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from deliv import config
from deliv.store import Fence, Store
from deliv.tasks.leases import Lease

log = structlog.get_logger()

Step = Callable[[Fence, float, int], Awaitable[int]]


class Retention:
    def __init__(self, store: Store, lease: Lease, settings: config.RetentionSettings) -> None:
        self._lease = lease
        self._batch = settings.batch
        self._steps: list[tuple[str, Step, float]] = [
            ("archived", store.archive, settings.archive_after),
            ("stagings forgotten", store.forget_stagings, settings.archive_after),
            ("dropped from the outbox", store.outbox_trim, settings.outbox),
        ]
        if settings.forget_after is not None:
            self._steps.append(("forgotten", store.forget, settings.forget_after))

    async def retain_once(self) -> int:
        """Do all that is due, batch by batch; how many rows."""
        rows = 0
        for what, step, age in self._steps:
            of_step, done = 0, self._batch
            while (
                done >= self._batch and await self._lease.held() and (fence := self._lease.fence())
            ):
                done = await step(fence, age, self._batch)
                of_step += done
            if of_step:
                log.info("retention", what=what, rows=of_step)
            rows += of_step
        return rows

"""The sweeps: relay messages to the broker, attend to overdue jobs, count the jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from deliv.config import Sweeps
from deliv.delivery.engine import Engine
from deliv.errors import BrokerUnavailable, Unavailable
from deliv.gateways.broker import Broker, Message
from deliv.model.states import Status
from deliv.ops import metrics
from deliv.store import OutboxRow, Routing, Store

log = structlog.get_logger()

TOGETHER = 8


class Relay:
    """Publishes outbox rows with confirms and deletes what was confirmed."""

    def __init__(self, store: Store, broker: Broker, config: Sweeps) -> None:
        self._store = store
        self._broker = broker
        self._batch = config.batch
        self._hold = float(config.hold)

    async def relay_once(self) -> int:
        """Publish until the outbox is empty; returns how many rows were confirmed."""
        total = 0
        while self._broker.ready:
            rows = await self._store.outbox_take(self._batch, self._hold)
            if not rows:
                break
            results = await asyncio.gather(*map(self._publish, rows), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, BrokerUnavailable):
                    raise result
            confirmed = [row.id for row, r in zip(rows, results, strict=True) if r is None]
            await self._store.outbox_done(confirmed)
            total += len(confirmed)
            if len(confirmed) < len(rows):
                raise BrokerUnavailable(f"{len(rows) - len(confirmed)} messages not confirmed")
        return total

    async def _publish(self, row: OutboxRow) -> None:
        message = Message(routing=row.routing, job_id=row.job_id, payload=row.payload)
        if row.routing == Routing.EVENT:
            await self._broker.publish_event(message)
        else:
            await self._broker.publish_work(message)


class Sweep:
    """Attends to due jobs and admits waiting ones, whether or not a message came."""

    def __init__(self, store: Store, engine: Engine, config: Sweeps) -> None:
        self._store = store
        self._engine = engine
        self._batch = config.batch

    async def sweep_once(self) -> int:
        """Returns how many jobs were looked at."""
        expired, due = await self._store.expired(self._batch), await self._store.due(self._batch)
        gate = asyncio.Semaphore(TOGETHER)
        work = [self._safely(self._engine.expire, job_id, gate) for job_id in expired]
        work += [self._safely(self._engine.attend, job_id, gate) for job_id in due]
        await asyncio.gather(*work)
        admitted = sum(await asyncio.gather(*(self._admit() for _ in range(TOGETHER))))
        counts = await self._store.counts()
        for status in Status:
            metrics.JOBS.labels(status=status.value).set(counts.get(status, 0))
        return len(work) + admitted

    async def _admit(self) -> int:
        admitted = 0
        while admitted < self._batch and await self._engine.admit_next():
            admitted += 1
        return admitted

    async def _safely(
        self, step: Callable[[str], Awaitable[None]], job_id: str, gate: asyncio.Semaphore
    ) -> None:
        async with gate:
            try:
                await step(job_id)
            except Unavailable:
                raise
            except Exception:  # one job's trouble must not keep the others waiting
                log.exception("a job could not be attended", job_id=job_id)

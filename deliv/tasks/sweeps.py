"""The sweeps: relay messages to the broker, enforce deadlines, attend to overdue jobs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import structlog

from deliv.config import Sweeps
from deliv.delivery.engine import Engine
from deliv.errors import BrokerUnavailable, Unavailable
from deliv.gateways.broker import Broker, Message
from deliv.store import Store

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
        while True:
            if not self._broker.ready:
                raise BrokerUnavailable("there is no connection to RabbitMQ")
            rows = await self._store.outbox_take(self._batch, self._hold)
            if not rows:
                break
            failures = await self._broker.publish(
                [
                    Message(routing=row.routing, job_id=row.job_id, payload=row.payload)
                    for row in rows
                ]
            )
            confirmed = [row.id for row, why in zip(rows, failures, strict=True) if why is None]
            await self._store.outbox_done(confirmed)
            total += len(confirmed)
            if len(confirmed) < len(rows):
                raise BrokerUnavailable(f"{len(rows) - len(confirmed)} messages not confirmed")
        return total


class Deadlines:
    """Ends the jobs whose deadline is over. Apart from the sweep, whose calls may be slow."""

    def __init__(self, store: Store, engine: Engine, config: Sweeps) -> None:
        self._store = store
        self._engine = engine
        self._batch = config.batch
        self._every = float(config.every)

    async def enforce_once(self) -> int:
        """First all of them, without any call; then FTS is to stop what it copies for them."""
        stopping: list[str] = []

        async def expire(job_id: str) -> None:
            if await self._engine.expire(job_id):
                stopping.append(job_id)

        until, ended, full = time.monotonic() + self._every, 0, True
        while full and time.monotonic() < until:
            expired = await self._store.expired(self._batch)
            ended += await _each(expired, expire, math.inf)
            full = len(expired) == self._batch
        await _each(stopping, self._engine.attend, until)
        return ended


class Sweep:
    """Attends to due jobs and stagings and admits waiting jobs, whether or not a message came.

    It begins with jobs for `every` seconds; the rest is due still when the next one follows. So it
    lasts as long as the slowest calls at most, however many jobs there are.
    """

    def __init__(self, store: Store, engine: Engine, config: Sweeps) -> None:
        self._store = store
        self._engine = engine
        self._batch = config.batch
        self._every = float(config.every)

    async def sweep_once(self) -> int:
        """Returns how many were looked at."""
        due = await self._store.due_stagings(self._batch)
        attended = await _each(due, self._engine.attend_staging, time.monotonic() + self._every)
        due = await self._store.due(self._batch)
        attended += await _each(due, self._engine.attend, time.monotonic() + self._every)
        until = time.monotonic() + self._every
        admitted = sum(await asyncio.gather(*(self._admit(until) for _ in range(TOGETHER))))
        return attended + admitted

    async def _admit(self, until: float) -> int:
        admitted = 0
        while admitted < self._batch and await self._engine.admit_next():
            admitted += 1
            if time.monotonic() >= until:
                break
        return admitted


async def _each(job_ids: list[str], step: Callable[[str], Awaitable[None]], until: float) -> int:
    """Take the step for each job, `TOGETHER` at once, and begin none after `until`; for how many.

    One job's trouble does not keep the others waiting.
    """
    waiting = iter(job_ids)

    async def work() -> int:
        done = 0
        for job_id in waiting:
            try:
                await step(job_id)
            except Unavailable:
                raise
            except Exception:
                log.exception("a job could not be attended", job_id=job_id)
            done += 1
            if time.monotonic() >= until:
                break
        return done

    results = await asyncio.gather(*(work() for _ in range(TOGETHER)), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return sum(result for result in results if isinstance(result, int))

"""Removes a queue that will never answer again, so that it is declared again.

A quorum queue can lose all its members for good while RabbitMQ keeps its name: with 3.10 when
the server is killed within a second of the declaration. Such a queue accepts declarations,
refuses messages and answers nothing. It holds nothing that MariaDB does not have.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from deliv import config
from deliv.errors import BrokerUnavailable
from deliv.gateways.broker.session import Session

# An election of leaders takes seconds, and so does the start of a server under load.
ATTEMPTS = 5
PATIENCE = 30.0

log = structlog.get_logger()


class QueueRepair:
    """Counts each queue's failures in a row; `failures` holds (how many, since when)."""

    def __init__(self, settings: config.BrokerSettings) -> None:
        self._settings = settings
        self._failures: dict[str, tuple[int, float]] = {}

    @asynccontextmanager
    async def watch(self, queue: str) -> AsyncIterator[None]:
        """Around a call that a working queue answers; too many failures remove the queue."""
        try:
            yield
        except BrokerUnavailable as error:
            count, since = self._failures.get(queue, (0, time.monotonic()))
            self._failures[queue] = count + 1, since
            if count + 1 >= ATTEMPTS and time.monotonic() - since >= PATIENCE:
                await self._remove(queue)
            raise BrokerUnavailable(f"queue {queue} does not answer: {error}") from error
        self._failures.pop(queue, None)

    async def _remove(self, queue: str) -> None:
        # A session of its own: the failure may have closed the other one.
        session = await Session.open(self._settings, "deliv-queue-repair")
        try:
            channel = await session.channel()
            await channel.call("queue_delete", queue)
        finally:
            await session.close()
        self._failures.pop(queue, None)
        log.error("queue removed, since it answers nothing; it is declared again", queue=queue)

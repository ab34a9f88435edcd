"""The dead-letter queue: bury, look, replay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deliv.broker.publisher import Publisher
from deliv.broker.session import Channel
from deliv.broker.topology import DEAD, QUEUES
from deliv.errors import BrokerUnavailable

QUEUE_HEADER = "x-deliv-queue"
REASON_HEADER = "x-deliv-reason"
REASON_LENGTH = 1000


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A buried message: where it came from, why and when, and its body as it was."""

    queue: str
    reason: str
    time: datetime | None
    body: bytes


Taken = tuple[int, DeadLetter]


class DeadLetters:
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def bury(self, queue: str, body: bytes, reason: str) -> None:
        headers = {QUEUE_HEADER: queue, REASON_HEADER: reason[:REASON_LENGTH]}
        await self._publisher.publish("", DEAD, body, mandatory=True, headers=headers)

    async def look(self, limit: int) -> list[DeadLetter]:
        """The oldest `limit` letters, which stay where they are."""
        async with self._taking(limit) as (_channel, taken):
            return [letter for _tag, letter in taken]

    async def replay(self, limit: int) -> int:
        """Send the oldest `limit` letters to their queues again; how many went.

        A letter of an unknown queue stays. BrokerUnavailable may leave some replayed.
        """
        replayed = 0
        async with self._taking(limit) as (channel, taken):
            for tag, letter in taken:
                if letter.queue in QUEUES.values():
                    await self._publisher.publish("", letter.queue, letter.body, mandatory=True)
                    channel.do("basic_ack", tag)
                    replayed += 1
        return replayed

    @asynccontextmanager
    async def _taking(self, limit: int) -> AsyncIterator[tuple[Channel, list[Taken]]]:
        """Letters with their delivery tags; what is not acknowledged in the block goes back."""
        session = self._publisher.link.session
        if session is None:
            raise BrokerUnavailable(self._publisher.detail)
        channel = await session.channel()
        try:
            yield channel, await _take(channel, limit)
        finally:
            await give_back(channel)


async def _take(channel: Channel, limit: int) -> list[Taken]:
    taken: list[Taken] = []
    while len(taken) < limit and (message := await channel.get(DEAD)):
        method, properties, body = message
        taken.append((method.delivery_tag, _letter(properties, body)))
    return taken


async def give_back(channel: Channel) -> None:
    if channel.raw.is_open:
        # nack, not reject: from RabbitMQ 4.3 on it does not count as a failure.
        channel.do("basic_nack", 0, multiple=True, requeue=True)
        await channel.close()


def _letter(properties: Any, body: bytes) -> DeadLetter:
    headers = properties.headers or {}
    death = (headers.get("x-death") or [{}])[0]
    return DeadLetter(
        queue=headers.get(QUEUE_HEADER) or death.get("queue", ""),
        reason=headers.get(REASON_HEADER) or death.get("reason", ""),
        time=_utc(death.get("time") or properties.timestamp),
        body=body,
    )


def _utc(value: datetime | int | None) -> datetime | None:
    if isinstance(value, int):
        return datetime.fromtimestamp(value, UTC)
    return value.replace(tzinfo=UTC) if value else None

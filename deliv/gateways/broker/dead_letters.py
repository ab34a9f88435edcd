"""The dead-letter queue: put there, look, replay, discard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deliv.errors import BrokerUnavailable
from deliv.gateways.broker.message import MalformedMessage, Message
from deliv.gateways.broker.publisher import Letter, Publisher
from deliv.gateways.broker.session import Channel, Session
from deliv.gateways.broker.topology import DEAD, QUEUES

QUEUE_HEADER = "x-deliv-queue"
REASON_HEADER = "x-deliv-reason"
REASON_LENGTH = 1000


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A message that could not be handled: from which queue, why and since when, and its body."""

    queue: str
    reason: str
    time: datetime | None
    body: bytes

    @classmethod
    def read(cls, properties: Any, body: bytes) -> DeadLetter:
        headers = properties.headers or {}
        # What the broker noted when it moved the message; a client may have written anything.
        match headers.get("x-death"):
            case [dict() as death, *_]:
                pass
            case _:
                death = {}
        return cls(
            queue=str(headers.get(QUEUE_HEADER) or death.get("queue", "")),
            reason=str(headers.get(REASON_HEADER) or death.get("reason", "")),
            time=_utc(death.get("time") or properties.timestamp),
            body=body,
        )

    @property
    def job_id(self) -> str | None:
        """The job it is about; None when the body is no message of deliv's."""
        try:
            return Message.decode(self.body).job_id
        except MalformedMessage:
            return None


@dataclass(frozen=True, kw_only=True)
class Depth:
    """`messages` that wait in a queue, without those that a consumer has."""

    messages: int
    consumers: int


def every(_letter: DeadLetter) -> bool:
    return True


Wanted = Callable[[DeadLetter], bool]
Taken = tuple[int, DeadLetter]


class DeadLetters:
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def add(self, queue: str, body: bytes, reason: str) -> None:
        headers = {QUEUE_HEADER: queue, REASON_HEADER: reason[:REASON_LENGTH]}
        await self._publisher.publish(Letter(key=DEAD, body=body, headers=headers))

    async def look(self, limit: int) -> list[DeadLetter]:
        """The oldest `limit` letters, which stay where they are."""
        async with self._take(limit) as (_channel, taken):
            return [letter for _tag, letter in taken]

    async def replay(self, limit: int, wanted: Wanted = every) -> int:
        """Send the wanted ones of the oldest `limit` letters to their queues again; how many went.

        A letter of an unknown queue stays. BrokerUnavailable may leave some replayed.
        """
        replayed = 0
        async with self._take(limit) as (channel, taken):
            for tag, letter in taken:
                if letter.queue in QUEUES.values() and wanted(letter):
                    await self._publisher.publish(Letter(key=letter.queue, body=letter.body))
                    channel.do("basic_ack", tag)
                    replayed += 1
        return replayed

    async def discard(self, limit: int, wanted: Wanted = every) -> int:
        """Remove the wanted ones of the oldest `limit` letters; how many."""
        async with self._take(limit) as (channel, taken):
            unwanted = [tag for tag, letter in taken if wanted(letter)]
            for tag in unwanted:
                channel.do("basic_ack", tag)
        return len(unwanted)

    async def depth(self, queue: str) -> Depth:
        """BrokerUnavailable, too, when there is no such queue."""
        channel = await self._session().channel()
        frame = await channel.call("queue_declare", queue, passive=True)
        await channel.close()
        declared = frame.method
        return Depth(messages=declared.message_count, consumers=declared.consumer_count)

    @asynccontextmanager
    async def _take(self, limit: int) -> AsyncIterator[tuple[Channel, list[Taken]]]:
        """Letters with their delivery tags; what is not acknowledged in the block goes back."""
        channel = await self._session().channel()
        taken: list[Taken] = []
        try:
            while len(taken) < limit and (message := await channel.get(DEAD)):
                method, properties, body = message
                taken.append((method.delivery_tag, DeadLetter.read(properties, body)))
            yield channel, taken
        finally:
            await give_back(channel)

    def _session(self) -> Session:
        session = self._publisher.connection.session
        if session is None:
            raise BrokerUnavailable(self._publisher.detail)
        return session


async def give_back(channel: Channel) -> None:
    if channel.raw.is_open:
        # nack, not reject: from RabbitMQ 4.3 on it does not count as a failure.
        channel.do("basic_nack", 0, multiple=True, requeue=True)
        await channel.close()


def _utc(value: Any) -> datetime | None:
    """None when it is no time, or none that can be."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    try:
        return datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None

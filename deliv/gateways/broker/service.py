"""The broker as the rest of deliv sees it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

from deliv import config
from deliv.errors import BrokerUnavailable
from deliv.gateways.broker.connection import BrokerConnection
from deliv.gateways.broker.consumer import Consumer, Handler
from deliv.gateways.broker.dead_letters import DeadLetter, DeadLetters, Depth, Wanted, every
from deliv.gateways.broker.message import Message, encode
from deliv.gateways.broker.publisher import Letter, Publisher
from deliv.gateways.broker.topology import DEAD, EVENTS, QUEUES, STAGE

FIRST_CONNECTION = 2.0  # seconds until the first look, so as not to look too early


class Broker:
    """Publishes, and consumes what `consume` was asked for.

    Two connections: RabbitMQ stops reading from one that publishes while it is short of memory
    or disk, and acknowledgements must go on even then, since they free memory and disk.

    Made and used on a running asyncio loop.
    """

    def __init__(self, settings: config.BrokerSettings) -> None:
        self._publisher = Publisher(settings, self._changed)
        self._dead = DeadLetters(self._publisher)
        self._consumer = Consumer(settings, self._dead.add, self._changed)
        self._connections: list[BrokerConnection] = [self._publisher.connection]
        self._on_up: Callable[[], None] | None = None
        self._was_ready = False
        self._settled = asyncio.Event()

    def consume(
        self, handlers: Mapping[str, Handler], on_up: Callable[[], None] | None = None
    ) -> None:
        """Before `start`: which handler gets the messages of which queue.

        `on_up` is called whenever the broker has become ready, also after it was blocked.
        """
        self._consumer.handlers = handlers
        self._connections.append(self._consumer.connection)
        self._on_up = on_up

    def start(self) -> None:
        """Begin to connect in the background, for as long as it takes."""
        for each in self._connections:
            each.start()

    async def stop(self, deadline: float) -> None:
        """Consume no more, give the running handlers `deadline` seconds, disconnect."""
        await self._consumer.stop(deadline)
        await self._publisher.connection.stop()

    @property
    def ready(self) -> bool:
        return self._publisher.ready and all(each.up for each in self._connections)

    @property
    def detail(self) -> str:
        """How the broker is, in words: "connected", "connecting: Connection refused" ..."""
        down = [each.detail for each in self._connections if not each.up]
        return down[0] if down else self._publisher.detail

    async def settled(self, seconds: float) -> None:
        """Wait until every connection is up or has failed once, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._settled.wait()

    async def check_ready(self, seconds: float) -> str:
        """`detail`, once it is ready; BrokerUnavailable when it is not within `seconds`."""
        await self.settled(seconds)
        if not self.ready:
            raise BrokerUnavailable(self.detail)
        return self.detail

    async def probe(self) -> str:
        """For readiness: `detail`, once the broker has answered a question.

        Where it consumes, by that connection, which the broker reads while publishing is blocked.
        """
        detail = await self.check_ready(FIRST_CONNECTION)
        await self._connections[-1].check(STAGE)
        return detail

    async def publish(self, messages: Sequence[Message]) -> list[BrokerUnavailable | None]:
        """Send work to the queue of its routing, and events to whoever listens, if anybody does.

        For each None once it is confirmed, or why it is not: refused, returned, cut off, blocked or
        not confirmed in time. It may have arrived nevertheless.
        """
        return await self._publisher.publish_all([_letter(message) for message in messages])

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The oldest dead letters; they stay in their queue."""
        return await self._dead.look(limit)

    async def replay(self, limit: int, wanted: Wanted = every) -> int:
        """Send the wanted ones of the oldest dead letters to their queues again; how many went."""
        return await self._dead.replay(limit, wanted)

    async def discard(self, limit: int, wanted: Wanted = every) -> int:
        """Remove the wanted ones of the oldest dead letters; how many."""
        return await self._dead.discard(limit, wanted)

    async def depths(self) -> dict[str, Depth]:
        """Every queue, and what waits in it."""
        return {queue: await self._dead.depth(queue) for queue in (*QUEUES.values(), DEAD)}

    def _changed(self) -> None:
        if all(each.tried for each in self._connections):
            self._settled.set()
        was, self._was_ready = self._was_ready, self.ready
        if self.ready and not was and self._on_up is not None:
            self._on_up()


def _letter(message: Message) -> Letter:
    """An event's routing key is `job.<payload's status in lower case>`."""
    if message.routing in QUEUES:
        return Letter(key=QUEUES[message.routing], body=message.encode())
    key = f"job.{str(message.payload['status']).lower()}"
    body = encode({**message.payload, "job_id": message.job_id})
    return Letter(exchange=EVENTS, key=key, body=body, mandatory=False)

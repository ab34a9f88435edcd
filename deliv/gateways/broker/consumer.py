"""Consuming: the handler is awaited, then the message acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from deliv import config
from deliv.errors import BrokerUnavailable, DelivError
from deliv.gateways.broker.dead_letters import give_back
from deliv.gateways.broker.link import Link
from deliv.gateways.broker.message import Malformed, Message
from deliv.gateways.broker.repair import QueueRepair
from deliv.gateways.broker.session import Channel, Session
from deliv.gateways.broker.topology import DEAD, declare
from deliv.model.backoff import Backoff

RETRY = Backoff(0.5, 8)

Handler = Callable[[Message], Awaitable[None]]

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One message in hand; `failures` is how often it was given back before."""

    channel: Channel
    tag: int
    queue: str
    failures: int
    body: bytes

    def settle(self, method: str, **kwargs: Any) -> None:
        try:
            self.channel.do(method, self.tag, **kwargs)
        except BrokerUnavailable as error:
            # The broker delivers it again; to handle a message twice is harmless.
            log.info("message not settled", queue=self.queue, reason=str(error))


class Consumer:
    """`bury(queue, body, reason)` puts a message into the dead-letter queue."""

    def __init__(
        self,
        settings: config.Broker,
        bury: Callable[[str, bytes, str], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self.link = Link(settings, "consumer", self._set_up, changed)
        self.handlers: Mapping[str, Handler] = {}
        self._settings = settings
        self._bury = bury
        self._mender = QueueRepair(settings)
        self._channel: Channel | None = None
        self._tags: list[str] = []
        self._in_hand: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def stop(self, deadline: float) -> None:
        """Take nothing new, give handlers `deadline` seconds; the rest is delivered again."""
        self._stopping.set()
        await self._cancel_consumers()
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=deadline)
        for task in self._in_hand:
            task.cancel()
        if self._in_hand:
            await asyncio.wait(self._in_hand)
        await self.link.stop()

    async def _cancel_consumers(self) -> None:
        if self._channel is None or not self.link.up:
            return
        try:
            for tag in self._tags:
                await self._channel.call("basic_cancel", tag)
        except BrokerUnavailable as error:
            log.info("consumers end with the connection", reason=str(error))

    async def _set_up(self, session: Session) -> None:
        await declare(session, self._settings)
        channel = await session.channel(vital=True)
        channel.raw.add_on_cancel_callback(
            lambda _frame: session.end("consumer cancelled by the broker")
        )
        await channel.call("basic_qos", prefetch_count=self._settings.prefetch)
        self._channel = channel
        self._tags = [await self._consume(channel, queue) for queue in self.handlers]
        await self._try_dead_letters(session)

    async def _consume(self, channel: Channel, queue: str) -> str:
        deliver = partial(self._on_delivery, channel, queue)
        async with self._mender.watch(queue):
            frame = await channel.call("basic_consume", queue, deliver)
        tag: str = frame.method.consumer_tag
        return tag

    async def _try_dead_letters(self, session: Session) -> None:
        """Nobody consumes them, so that nobody else would notice that the queue is broken."""
        channel = await session.channel()
        async with self._mender.watch(DEAD):
            await channel.get(DEAD)
        await give_back(channel)

    def _on_delivery(
        self, channel: Channel, queue: str, _raw: Any, method: Any, properties: Any, body: bytes
    ) -> None:
        if self._stopping.is_set():
            return  # not acknowledged: goes back when the channel closes
        delivery = Delivery(
            channel=channel,
            tag=method.delivery_tag,
            queue=queue,
            failures=_failures(properties.headers or {}),
            body=body,
        )
        task = asyncio.create_task(self._attend(delivery))
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)

    async def _attend(self, delivery: Delivery) -> None:
        try:
            message = Message.decode(delivery.body)
        except Malformed as error:
            await self._give_up(delivery, f"malformed: {error}")
            return
        try:
            await self.handlers[delivery.queue](message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message must go back
            await self._failed(delivery, message, error)
        else:
            delivery.settle("basic_ack")

    async def _failed(self, delivery: Delivery, message: Message, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        log.warning(
            "message not handled",
            queue=delivery.queue,
            job_id=message.job_id,
            failures=delivery.failures + 1,
            reason=reason,
            exc_info=None if isinstance(error, DelivError) else error,
        )
        if delivery.failures >= self._settings.delivery_limit:
            await self._give_up(delivery, f"failed {delivery.failures + 1} times, last {reason}")
            return
        await self._pause(RETRY.pause(delivery.failures))
        # reject, not nack: from RabbitMQ 4.3 on only reject counts towards the delivery limit.
        delivery.settle("basic_reject", requeue=True)

    async def _give_up(self, delivery: Delivery, reason: str) -> None:
        log.error("message buried", queue=delivery.queue, reason=reason)
        try:
            await self._bury(delivery.queue, delivery.body, reason)
        except BrokerUnavailable:
            # The broker moves it to the same queue itself, only without our reason.
            delivery.settle("basic_reject", requeue=False)
        else:
            delivery.settle("basic_ack")

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _failures(headers: Mapping[str, Any]) -> int:
    """What the broker has counted; where it doesn't count, a client may have written anything."""
    count = headers.get("x-delivery-count")
    return count if isinstance(count, int) else 0

"""Consuming: the handler is awaited, then the message acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from deliv import config
from deliv.errors import BrokerUnavailable, DelivError
from deliv.gateways.broker.connection import BrokerConnection
from deliv.gateways.broker.dead_letters import give_back
from deliv.gateways.broker.message import MalformedMessage, Message
from deliv.gateways.broker.repair import QueueRepair
from deliv.gateways.broker.session import Channel, Session
from deliv.gateways.broker.topology import DEAD, declare
from deliv.model.backoff import Backoff

RETRY = Backoff(0.5, 8)

Handler = Callable[[Message], Awaitable[None]]

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One message that is being handled; `failures` is how often it was given back before."""

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
    """`handlers`, by queue, are set before the connection is started.

    `dead_letter(queue, body, reason)` puts a message into the dead-letter queue.
    """

    def __init__(
        self,
        settings: config.BrokerSettings,
        dead_letter: Callable[[str, bytes, str], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self.connection = BrokerConnection(settings, "consumer", self._set_up, changed)
        self.handlers: Mapping[str, Handler] = {}
        self._settings = settings
        self._dead_letter = dead_letter
        self._repair = QueueRepair(settings)
        self._channel: Channel | None = None
        self._tags: list[str] = []
        self._in_flight: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def stop(self, deadline: float) -> None:
        """Take nothing new, give handlers `deadline` seconds; the rest is delivered again."""
        self._stopping.set()
        if self._channel is not None and self.connection.up:
            try:
                for tag in self._tags:
                    await self._channel.call("basic_cancel", tag)
            except BrokerUnavailable as error:
                log.info("consumers end with the connection", reason=str(error))
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=deadline)
        for task in self._in_flight:
            task.cancel()
        if self._in_flight:
            await asyncio.wait(self._in_flight)
        await self.connection.stop()

    async def _set_up(self, session: Session) -> None:
        await declare(session, self._settings)
        channel = await session.channel(vital=True)
        channel.raw.add_on_cancel_callback(
            lambda _frame: session.end("consumer cancelled by the broker")
        )
        await channel.call("basic_qos", prefetch_count=self._settings.prefetch)
        self._channel, self._tags = channel, []
        for queue in self.handlers:
            async with self._repair.watch(queue):
                deliver = partial(self._on_delivery, channel, queue)
                frame = await channel.call("basic_consume", queue, deliver)
            self._tags.append(frame.method.consumer_tag)
        # Dead letters have no consumer that would notice when their queue is broken.
        dead_letters = await session.channel()
        async with self._repair.watch(DEAD):
            await dead_letters.get(DEAD)
        await give_back(dead_letters)

    def _on_delivery(
        self, channel: Channel, queue: str, _raw: Any, method: Any, properties: Any, body: bytes
    ) -> None:
        if self._stopping.is_set():
            return  # not acknowledged: goes back when the channel closes
        # What the broker counts; where it doesn't, a client may have written anything.
        count = (properties.headers or {}).get("x-delivery-count")
        delivery = Delivery(
            channel=channel,
            tag=method.delivery_tag,
            queue=queue,
            failures=count if isinstance(count, int) else 0,
            body=body,
        )
        task = asyncio.create_task(self._handle(delivery))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _handle(self, delivery: Delivery) -> None:
        try:
            message = Message.decode(delivery.body)
        except MalformedMessage as error:
            await self._give_up(delivery, f"malformed: {error}")
            return
        try:
            await self.handlers[delivery.queue](message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message must go back
            await self._failed(delivery, message, error)
        else:
            delivery.settle("basic_ack")

    async def _failed(self, delivery: Delivery, message: Message, error: Exception) -> None:
        """The message goes back after a pause, or to the dead letters after too many failures."""
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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY.pause(delivery.failures)):
                await self._stopping.wait()
        # reject, not nack: from RabbitMQ 4.3 on only reject counts towards the delivery limit.
        delivery.settle("basic_reject", requeue=True)

    async def _give_up(self, delivery: Delivery, reason: str) -> None:
        log.error("message dead-lettered", queue=delivery.queue, reason=reason)
        try:
            await self._dead_letter(delivery.queue, delivery.body, reason)
        except BrokerUnavailable:
            # The broker moves it to the same queue itself, only without our reason.
            delivery.settle("basic_reject", requeue=False)
        else:
            delivery.settle("basic_ack")

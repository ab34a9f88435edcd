"""A broker of deliv's on a real RabbitMQ, its handlers, and what the queues hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from deliv import config
from deliv.errors import BrokerUnavailable
from deliv.gateways.broker import STAGE, TRANSFER, Broker, Message
from deliv.gateways.broker.session import Session

JOB = "0190b6c4-0000-7000-8000-00000000000a"
WORK = Message(routing="stage", job_id=JOB)


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.02)


async def publish(broker: Broker, message: Message) -> None:
    """BrokerUnavailable."""
    (failure,) = await broker.publish([message])
    if failure is not None:
        raise failure


async def until_published(broker: Broker) -> None:
    """What the outbox does: again, until it is confirmed. A queue without leader refuses."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await publish(broker, WORK)
        except BrokerUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


class Recorder:
    """A handler that keeps what it got, and fails or waits where it is asked to."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.failing: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.done = 0

    async def __call__(self, message: Message) -> None:
        self.got.append(message)
        await self.open.wait()
        if self.failing:
            raise self.failing
        self.done += 1


@asynccontextmanager
async def running(
    settings: config.BrokerSettings, *handlers: Recorder, on_up: Callable[[], None] | None = None
) -> AsyncIterator[Broker]:
    """A started broker; the first handler consumes deliv.stage, a second deliv.transfer."""
    broker = Broker(settings)
    if handlers or on_up:
        broker.consume(dict(zip((STAGE, TRANSFER), handlers, strict=False)), on_up)
    broker.start()
    try:
        yield broker
    finally:
        await broker.stop(5)


@asynccontextmanager
async def connected(settings: config.BrokerSettings, *handlers: Recorder) -> AsyncIterator[Broker]:
    async with running(settings, *handlers) as broker:
        await until(lambda: broker.ready)
        yield broker


@asynccontextmanager
async def raw(settings: config.BrokerSettings) -> AsyncIterator[Any]:
    own = await Session.open(settings, "test")
    try:
        yield await own.channel()
    finally:
        await own.close()


async def messages_in(settings: config.BrokerSettings, queue: str) -> int:
    async with raw(settings) as channel:
        frame = await channel.call("queue_declare", queue, passive=True)
        return int(frame.method.message_count)


async def until_holds(settings: config.BrokerSettings, queue: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while (found := await messages_in(settings, queue)) != count:
        assert time.monotonic() < deadline, f"{queue} holds {found}, not {count}"
        await asyncio.sleep(0.1)

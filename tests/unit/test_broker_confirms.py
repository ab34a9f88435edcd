"""Confirms that cover several messages, as a loaded broker sends them, are distinguished."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pika.frame import Method
from pika.spec import Basic

from deliv.errors import BrokerUnavailable
from deliv.gateways.broker.publisher import Confirms, Letter
from deliv.gateways.broker.session import Channel


class Wire:
    """Stands for pika's channel: keeps the callbacks, sends nothing."""

    def __init__(self) -> None:
        self.answer: Callable[[Any], None] = print

    def add_on_close_callback(self, callback: Callable[..., None]) -> None:
        self.close = callback

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self.give_back = callback

    def add_callback(self, *_arguments: Any) -> None:
        pass

    def confirm_delivery(self, answer: Any, callback: Callable[[object], None]) -> None:
        self.answer = answer
        callback(None)

    def basic_publish(self, *_arguments: Any) -> None:
        pass


def ack(tag: int, *, multiple: bool = False) -> Any:
    return Method(1, Basic.Ack(tag, multiple))


async def sent(wire: Wire, count: int) -> list[asyncio.Future[None]]:
    confirms = Confirms(Channel(wire), returned=lambda _reason: None)
    await confirms.begin()
    return [confirms.send(Letter(key="q", body=b"{}")) for _ in range(count)]


def test_one_answer_confirms_all_up_to_its_tag() -> None:
    async def scenario() -> None:
        wire = Wire()
        futures = await sent(wire, 5)
        wire.answer(ack(2))
        assert [future.done() for future in futures] == [False, True, False, False, False]
        wire.answer(ack(4, multiple=True))
        assert [future.done() for future in futures] == [True, True, True, True, False]
        wire.answer(Method(1, Basic.Nack(0, True)))
        with pytest.raises(BrokerUnavailable, match="refused"):
            await futures[4]

    asyncio.run(scenario())


def test_an_answer_to_a_message_without_a_waiter_is_ignored() -> None:
    async def scenario() -> None:
        wire = Wire()
        (future,) = await sent(wire, 1)
        future.cancel()
        wire.answer(ack(1))
        wire.answer(ack(1))

    asyncio.run(scenario())

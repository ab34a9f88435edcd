"""Publishing with confirms: one future per delivery tag."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pika
import structlog

from deliv import config
from deliv.errors import BrokerUnavailable
from deliv.gateways.broker.connection import BrokerConnection
from deliv.gateways.broker.session import Channel, Session
from deliv.gateways.broker.topology import declare

CONFIRM_TIMEOUT = 10.0
PERSISTENT = 2

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message as it is sent; a `mandatory` one must reach a queue."""

    exchange: str = ""
    key: str
    body: bytes
    mandatory: bool = True
    headers: Mapping[str, Any] = field(default_factory=dict)


class Confirms:
    """A channel in confirm mode. Every message sent has a future until the broker answers."""

    def __init__(self, channel: Channel, returned: Callable[[str], None]) -> None:
        self._channel = channel
        self._on_returned = returned
        self._last = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}

    async def begin(self) -> None:
        self._channel.raw.add_on_return_callback(self._on_return)
        self._channel.closed.add_done_callback(lambda closed: self.fail(closed.result()))
        await self._channel.call("confirm_delivery", self._on_answer)

    def send(self, letter: Letter) -> asyncio.Future[None]:
        """The future resolves at the broker's confirm and raises at nack, return or close."""
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=PERSISTENT,
            timestamp=int(time.time()),
            app_id="deliv",
            correlation_id=str(self._last + 1),
            headers=dict(letter.headers),
        )
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        where = letter.exchange, letter.key
        try:
            self._channel.do("basic_publish", *where, letter.body, properties, letter.mandatory)
        except BrokerUnavailable as error:
            _fail(future, str(error))
        else:
            self._last += 1
            self._waiting[self._last] = future
        return future

    def fail(self, reason: str) -> None:
        """Nothing sent so far will be confirmed in time."""
        for future in self._waiting.values():
            _fail(future, reason)

    def _on_answer(self, frame: Any) -> None:
        answer = frame.method
        confirmed = answer.NAME == "Basic.Ack"
        tag = answer.delivery_tag
        tags = [tag]
        if answer.multiple:  # all up to this one; 0: all there are
            tags = [each for each in self._waiting if tag in (0, each) or each < tag]
        for each in tags:
            future = self._waiting.pop(each, None)
            if future is None or future.done():
                continue
            if confirmed:
                future.set_result(None)
            else:
                _fail(future, "refused by the broker")

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        reason = f"returned by the broker: {method.reply_text} {method.routing_key}"
        future = self._waiting.get(int(properties.correlation_id))
        if future is not None:
            _fail(future, reason)
        self._on_returned(reason)


class Publisher:
    """`blocked` is the broker's reason for not taking messages, "" when it does."""

    def __init__(self, settings: config.BrokerSettings, changed: Callable[[], None]) -> None:
        self.blocked = ""
        self.connection = BrokerConnection(settings, "publisher", self._set_up, changed)
        self._settings = settings
        self._changed = changed
        self._confirms: Confirms | None = None

    @property
    def ready(self) -> bool:
        return self.connection.up and not self.blocked

    @property
    def detail(self) -> str:
        return (
            f"blocked: {self.blocked}"
            if self.connection.up and self.blocked
            else self.connection.detail
        )

    async def publish(self, letter: Letter) -> None:
        """Return once the broker has confirmed; BrokerUnavailable says why it did not."""
        (failure,) = await self.publish_all([letter])
        if failure is not None:
            raise failure

    async def publish_all(self, letters: Sequence[Letter]) -> list[BrokerUnavailable | None]:
        """For each why the broker did not confirm it, None when it did."""
        if self._confirms is None or not self.ready:
            return [BrokerUnavailable(self.detail)] * len(letters)
        sent = [self._confirms.send(letter) for letter in letters]
        await asyncio.wait(sent, timeout=CONFIRM_TIMEOUT)
        if late := [future for future in sent if not future.done()]:
            # A broker that hangs shows itself at the next connection, long before a heartbeat.
            reason = f"no confirm within {CONFIRM_TIMEOUT:g} s"
            for future in late:
                _fail(future, reason)
            self.connection.reconnect(reason)
        return [cast(BrokerUnavailable | None, future.exception()) for future in sent]

    async def _set_up(self, session: Session) -> None:
        await declare(session, self._settings)
        session.on_blocked(self._on_blocked)
        confirms = Confirms(await session.channel(vital=True), self.connection.reconnect)
        await confirms.begin()
        self.blocked = ""
        self._confirms = confirms

    def _on_blocked(self, reason: str) -> None:
        self.blocked = reason
        log.warning("broker blocks publishing" if reason else "broker unblocked", reason=reason)
        if reason and self._confirms is not None:
            self._confirms.fail(f"blocked: {reason}")
        self._changed()


def _fail(future: asyncio.Future[None], reason: str) -> None:
    if not future.done():
        future.set_exception(BrokerUnavailable(reason))
        future.exception()  # asyncio would complain where whoever waited is gone

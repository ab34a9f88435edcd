"""One AMQP connection and its channels as awaitables: the edge where pika's callbacks end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError, ChannelClosed
from pika.spec import Basic

from deliv import config
from deliv.errors import BrokerUnavailable

CONNECT_TIMEOUT = 10.0
ANSWER_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
# A blocked connection may be a broker that forgot us: connect again after this many seconds.
BLOCKED_TIMEOUT = 300.0

# pika reports each failed attempt several times, with tracebacks; BrokerConnection logs it once.
logging.getLogger("pika").setLevel(logging.CRITICAL)


def _is_of_use(record: logging.LogRecord) -> bool:
    """pika trips over an assertion of its own when a connection is given up while it is made."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, AssertionError) and "WorkflowAborted" in str(error))


logging.getLogger("asyncio").addFilter(_is_of_use)


class Channel:
    """A channel whose methods are awaited. `closed` resolves with the reason of its end."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.code = 0
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        raw.add_on_close_callback(self._on_close)
        raw.add_callback(lambda _frame: _resolve(self._got, None), [Basic.GetEmpty], False)

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of pika's channel and await the broker's answer.

        BrokerUnavailable when the channel ends first or no answer comes in time.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.do(method, *args, **kwargs, callback=_settle(answer))
        return await self._first(answer, method)

    async def get(self, queue: str) -> tuple[Any, Any, bytes] | None:
        """Take one message without acknowledging it: (method, properties, body), one at a time."""
        self._got = asyncio.get_running_loop().create_future()
        self.do("basic_get", queue, lambda _channel, *message: _resolve(self._got, message))
        message: tuple[Any, Any, bytes] | None = await self._first(self._got, "basic_get")
        return message

    def do(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method that has no answer, or whose answer is not awaited."""
        try:
            getattr(self.raw, method)(*args, **kwargs)
        except AMQPError as error:
            raise BrokerUnavailable(f"{method}: {explain(error)}") from error

    async def close(self) -> None:
        if self.raw.is_open:
            self.do("close")
            await asyncio.wait({self.closed}, timeout=CLOSE_TIMEOUT)

    async def _first(self, answer: asyncio.Future[Any], method: str) -> Any:
        await asyncio.wait(
            {answer, self.closed}, timeout=ANSWER_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
        )
        if answer.done():
            return answer.result()
        reason = self.closed.result() if self.closed.done() else "no answer"
        raise BrokerUnavailable(f"{method}: {reason}")

    def _on_close(self, _channel: Any, error: BaseException) -> None:
        if isinstance(error, ChannelClosed):
            self.code = error.reply_code
        _resolve(self.closed, explain(error))


class Session:
    """One connection. `ended` resolves with the reason once it is of no more use."""

    def __init__(self, settings: config.BrokerSettings, name: str) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._connection: Any = AsyncioConnection(
            _parameters(settings, name),
            on_open_callback=lambda _connection: _resolve(self._opened, None),
            on_open_error_callback=self._on_close,
            on_close_callback=self._on_close,
        )

    @classmethod
    async def open(cls, settings: config.BrokerSettings, name: str) -> Session:
        """Connect and log in; BrokerUnavailable says why not."""
        session = cls(settings, name)
        outcomes: set[asyncio.Future[Any]] = {session._opened, session.ended}
        try:
            await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
            if session.ended.done():
                raise BrokerUnavailable(session.ended.result())
        except BaseException:
            await session.close()
            raise
        return session

    async def channel(self, *, vital: bool = False) -> Channel:
        """Open a channel. The end of a vital one ends the session."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            channel = Channel(self._connection.channel(on_open_callback=_settle(answer)))
        except AMQPError as error:
            raise BrokerUnavailable(explain(error)) from error
        await channel._first(answer, "channel")
        if vital:
            channel.closed.add_done_callback(lambda closed: self.end(closed.result()))
        return channel

    def on_blocked(self, report: Callable[[str], None]) -> None:
        """`report` gets the broker's reason when it blocks publishing, "" when it is over."""
        self._connection.add_on_connection_blocked_callback(
            lambda _connection, frame: report(frame.method.reason)
        )
        self._connection.add_on_connection_unblocked_callback(
            lambda _connection, _frame: report("")
        )

    def end(self, reason: str) -> None:
        _resolve(self.ended, reason)

    async def close(self) -> None:
        with contextlib.suppress(AMQPError):  # it is closed or closing already
            self._connection.close()
        await asyncio.wait({self._closed}, timeout=CLOSE_TIMEOUT)

    def _on_close(self, _connection: Any, error: BaseException) -> None:
        _resolve(self._closed, None)
        self.end(explain(error))


def explain(error: BaseException) -> str:
    """The one sentence in pika's nest of exceptions that says what happened."""
    inner = _innermost(error)
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    text = getattr(inner, "reply_text", "") or str(inner)
    return text or type(inner).__name__


def _innermost(error: BaseException) -> BaseException:
    nested = [*error.args[:1], getattr(error, "exception", None), *getattr(error, "exceptions", ())]
    causes = [each for each in nested if isinstance(each, BaseException)]
    return _innermost(causes[-1]) if causes else error


def _parameters(settings: config.BrokerSettings, name: str) -> Any:
    # Password and CA are read at every connection, so that a changed file is noticed.
    return pika.ConnectionParameters(
        host=settings.host,
        port=settings.port,
        virtual_host=settings.vhost,
        credentials=pika.PlainCredentials(settings.user, settings.password()),
        heartbeat=max(1, round(settings.heartbeat)),
        blocked_connection_timeout=BLOCKED_TIMEOUT,
        socket_timeout=CONNECT_TIMEOUT,
        stack_timeout=CONNECT_TIMEOUT * 1.5,
        ssl_options=_tls(settings),
        client_properties={"connection_name": name},
    )


def _tls(settings: config.BrokerSettings) -> Any:
    if settings.ca_file is None:
        return None
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return pika.SSLOptions(context, settings.host)


def _settle(answer: asyncio.Future[Any]) -> Callable[[Any], None]:
    return lambda result: _resolve(answer, result)


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)

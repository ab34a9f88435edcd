"""Keeps one session with the broker: connect, set up, wait for its end, back off, again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from deliv import config
from deliv.errors import BrokerUnavailable, DelivError
from deliv.gateways.broker.session import Session
from deliv.model.backoff import Backoff

RECONNECT = Backoff(0.5, 30)
SET_UP_TIMEOUT = 60.0
CONNECTING = "connecting"

log = structlog.get_logger()


class BrokerConnection:
    """`detail` is its state in words; `session` is None while it is down."""

    def __init__(
        self,
        settings: config.BrokerSettings,
        name: str,
        set_up: Callable[[Session], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self.session: Session | None = None
        self.detail = CONNECTING
        self._is_down = False
        self._settings = settings
        self._name = name
        self._set_up = set_up
        self._changed = changed
        self._task: asyncio.Task[None] | None = None

    @property
    def tried(self) -> bool:
        """Whether a first attempt has ended, one way or the other."""
        return self.detail != CONNECTING

    @property
    def up(self) -> bool:
        return self.session is not None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"broker-{self._name}")

    async def stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        self.detail = "stopped"

    def reconnect(self, reason: str) -> None:
        """Connect again, and declare the topology again."""
        if self.session is not None:
            self.session.end(reason)

    async def check(self, queue: str) -> None:
        """BrokerUnavailable unless the broker answers a question about the queue.

        A connection may be open to a broker that is dead inside: then another one is tried.
        """
        session = self.session
        if session is None:
            raise BrokerUnavailable(self.detail)
        try:
            channel = await session.channel()
            await channel.call("queue_declare", queue, passive=True)
            await channel.close()
        except BrokerUnavailable as error:
            session.end(str(error))
            raise

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                was_up = await self._connect_once()
            except Exception as error:  # noqa: BLE001 - without another attempt it would never be up
                self._went_down(f"{type(error).__name__}: {error}", error)
                was_up = False
            failures = 0 if was_up else failures + 1
            await asyncio.sleep(RECONNECT.jittered(failures))

    async def _connect_once(self) -> bool:
        """Keep one session as long as it lasts; whether it was ever usable."""
        try:
            session = await Session.open(self._settings, f"deliv-{self._name}")
        except (DelivError, OSError) as error:
            self._went_down(f"connecting: {error}")
            return False
        try:
            async with asyncio.timeout(SET_UP_TIMEOUT):
                await self._set_up(session)
            self.session, self.detail, self._is_down = session, "connected", False
            log.info("broker connected", connection=self._name)
            self._changed()
            reason = await session.ended
            self.session = None
            self._went_down(f"lost: {reason}")
            return True
        except (DelivError, TimeoutError) as error:
            self._went_down(f"setting up: {error or 'no answer'}")
            return False
        finally:
            self.session = None
            await session.close()

    def _went_down(self, detail: str, unexpected: Exception | None = None) -> None:
        self.detail = detail
        again = self._is_down and unexpected is None  # and has been told
        self._is_down = True
        (log.debug if again else log.warning)(
            "broker unavailable", connection=self._name, reason=detail, exc_info=unexpected
        )
        self._changed()

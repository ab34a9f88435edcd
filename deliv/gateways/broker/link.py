"""Keeps one session open for ever: connect, set up, wait for its end, back off, again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from deliv import config
from deliv.errors import DelivError
from deliv.gateways.broker.session import Session
from deliv.model.backoff import Backoff

RECONNECT = Backoff(0.5, 30)
SET_UP_TIMEOUT = 60.0
CONNECTING = "connecting"

log = structlog.get_logger()


class Link:
    """`detail` says in words how the link is; `session` is None while it is down."""

    def __init__(
        self,
        settings: config.Broker,
        name: str,
        set_up: Callable[[Session], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self.session: Session | None = None
        self.detail = CONNECTING
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

    def renew(self, reason: str) -> None:
        """Begin anew with a fresh connection and a fresh topology."""
        if self.session is not None:
            self.session.end(reason)

    async def _run(self) -> None:
        failures = 0
        while True:
            was_up = await self._attempt()
            failures = 0 if was_up else failures + 1
            await asyncio.sleep(RECONNECT.jittered(failures))

    async def _attempt(self) -> bool:
        try:
            return await self._once()
        except Exception as error:  # noqa: BLE001 - a link that gave up would never come back
            self._went_down(f"{type(error).__name__}: {error}", error)
            return False

    async def _once(self) -> bool:
        """Hold one connection as long as it lasts; whether it was ever usable."""
        try:
            session = await Session.open(self._settings, f"deliv-{self._name}")
        except (DelivError, OSError) as error:
            self._went_down(f"connecting: {error}")
            return False
        try:
            return await self._hold(session)
        finally:
            self.session = None
            await session.close()

    async def _hold(self, session: Session) -> bool:
        try:
            async with asyncio.timeout(SET_UP_TIMEOUT):
                await self._set_up(session)
        except (DelivError, TimeoutError) as error:
            self._went_down(f"setting up: {error or 'no answer'}")
            return False
        self._went_up(session)
        reason = await session.ended
        self.session = None
        self._went_down(f"lost: {reason}")
        return True

    def _went_up(self, session: Session) -> None:
        self.session = session
        self.detail = "connected"
        log.info("broker connected", link=self._name)
        self._changed()

    def _went_down(self, detail: str, unexpected: Exception | None = None) -> None:
        self.detail = detail
        log.warning("broker unavailable", link=self._name, reason=detail, exc_info=unexpected)
        self._changed()

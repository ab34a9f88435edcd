"""Readiness: which dependency answers, asked now and then, told when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from deliv import metrics
from deliv.errors import DelivError

log = structlog.get_logger()

Probe = Callable[[], Awaitable[str]]

ESSENTIAL = "mariadb"  # without it no request can be served


class Health:
    """`probes`: by dependency, an awaitable that returns a detail or raises a DelivError."""

    def __init__(self, probes: Mapping[str, Probe], timeout: float = 10.0) -> None:
        self._probes = probes
        self._timeout = timeout
        self._states = {name: (False, "not asked yet") for name in probes}
        self.draining = False

    async def check_once(self) -> None:
        await asyncio.gather(*(self._check(name, probe) for name, probe in self._probes.items()))

    def report(self) -> dict[str, Any]:
        """status: ready | degraded | draining | unavailable, and each dependency's state."""
        waiting = [name for name, (up, _) in self._states.items() if not up]
        dependencies = {
            name: {"up": up, "detail": detail} for name, (up, detail) in self._states.items()
        }
        return {
            "status": self._status(waiting),
            "waiting_for": waiting,
            "dependencies": dependencies,
        }

    def _status(self, waiting: list[str]) -> str:
        if ESSENTIAL in waiting or self.draining:
            return "unavailable"
        return "degraded" if waiting else "ready"

    async def _check(self, name: str, probe: Probe) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                state = (True, await probe())
        except TimeoutError:
            state = (False, f"no answer within {self._timeout:.0f} s")
        except DelivError as error:
            state = (False, str(error))
        self._tell(name, state)
        self._states[name] = state
        metrics.DEPENDENCY_UP.labels(dependency=name).set(state[0])

    def _tell(self, name: str, state: tuple[bool, str]) -> None:
        if state == self._states[name]:
            return
        if state[0]:
            log.info("dependency is up", dependency=name, detail=state[1])
        else:
            log.warning("waiting for a dependency", dependency=name, detail=state[1])

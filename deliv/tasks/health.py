"""Readiness: which dependency answers, asked now and then, logged when it changes.

MariaDB and RabbitMQ are also asked by each look at `/ready`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import structlog

from deliv.errors import DelivError
from deliv.ops import metrics

log = structlog.get_logger()

Probe = Callable[[], Awaitable[str]]

ESSENTIAL = "mariadb"  # without it no request can be served
ASKED_BY_READY = ("mariadb", "rabbitmq")
PROMPT = 5.0  # seconds within which those answer, when they are well
FRESH = 1.0  # seconds for which an answer of theirs is used again

NOT_ASKED = "not asked yet"


def one_at_a_time(probe: Probe) -> Probe:
    """Who asks while it runs waits for that run, which goes on when they give up.

    So a dependency that hangs is asked once, however often somebody looks; and PROMPT after that
    each look is answered at once (TimeoutError).
    """
    running: asyncio.Task[str] | None = None
    until = 0.0

    async def ask() -> str:
        nonlocal running, until
        if running is None or running.done():
            until = asyncio.get_running_loop().time() + PROMPT
            running = asyncio.ensure_future(probe())
            running.add_done_callback(_retrieve)
        async with asyncio.timeout_at(until):
            return await asyncio.shield(running)

    return ask


def _retrieve(run: asyncio.Task[str]) -> None:
    """Else asyncio reports an error that comes when all who asked have given up."""
    if not run.cancelled():
        run.exception()


class Health:
    """`probes`: by dependency, an awaitable that returns a detail or raises a DelivError.

    `breakers`: by dependency, the states of its circuit breakers, by the names that they are shown
    under. They make nothing unready: a probe says whether a dependency is up.
    """

    def __init__(
        self,
        probes: Mapping[str, Probe],
        breakers: Mapping[str, Mapping[str, Callable[[], str]]] = MappingProxyType({}),
        timeout: float = 10.0,
    ) -> None:
        self._probes = probes
        self._breakers = breakers
        self._timeout = timeout
        self._states = {name: (False, NOT_ASKED) for name in probes}
        self._checked_at = dict.fromkeys(probes, -math.inf)
        self._down_since: dict[str, float] = {}
        self.draining = False

    async def check_once(self) -> None:
        await asyncio.gather(*(self._check(name, probe) for name, probe in self._probes.items()))

    async def check_ready(self) -> dict[str, Any]:
        """The report, with an answer of MariaDB and RabbitMQ of FRESH seconds ago at most."""
        oldest = time.monotonic() - FRESH
        due = [name for name in ASKED_BY_READY if self._checked_at[name] <= oldest]
        await asyncio.gather(*(self._check(name, self._probes[name]) for name in due))
        return self.report()

    def report(self) -> dict[str, Any]:
        """status: ready | degraded | draining | unavailable, and each dependency's state."""
        waiting = [name for name, (up, _) in self._states.items() if not up]
        status = "degraded" if waiting else "ready"
        if ESSENTIAL in waiting or self.draining:
            status = "unavailable"
        return {
            "status": status,
            "waiting_for": waiting,
            "dependencies": {
                name: {"up": up, "detail": detail}
                | {shown: state() for shown, state in self._breakers.get(name, {}).items()}
                for name, (up, detail) in self._states.items()
            },
        }

    def trouble(self, name: str) -> str | None:
        """Why a dependency is out, as far as is known; None while it is not known to be."""
        up, detail = self._states.get(name, (True, ""))
        return None if up or detail == NOT_ASKED else detail

    async def _check(self, name: str, probe: Probe) -> None:
        limit = PROMPT if name in ASKED_BY_READY else self._timeout
        try:
            async with asyncio.timeout(limit):
                state = (True, await probe())
        except TimeoutError:
            state = (False, f"no answer within {limit:g} s")
        except DelivError as error:
            state = (False, str(error))
        self._log(name, *state)
        self._states[name] = state
        self._checked_at[name] = time.monotonic()
        metrics.DEPENDENCY_UP.labels(dependency=name).set(state[0])

    def _log(self, name: str, up: bool, detail: str) -> None:
        """When an outage begins, and when it ends; what else is said meanwhile at debug."""
        before, since = self._states[name], self._down_since.get(name)
        if not up and since is None:
            self._down_since[name] = time.monotonic()
            log.warning("waiting for a dependency", dependency=name, detail=detail)
        elif up and since is not None:
            waited = round(time.monotonic() - self._down_since.pop(name), 1)
            log.info("dependency is up", dependency=name, detail=detail, waited=waited)
        elif before[1] == NOT_ASKED:
            log.info("dependency is up", dependency=name, detail=detail)
        elif (up, detail) != before:
            log.debug("dependency", dependency=name, up=up, detail=detail)

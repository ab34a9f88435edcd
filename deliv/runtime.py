"""The life of one instance: start, reload, drain, stop; and the watchdog."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import uuid
from collections.abc import Awaitable, Coroutine
from contextvars import Context
from typing import Any

import structlog

from deliv import __version__
from deliv.assembly import build, shared_periodics
from deliv.config import Config
from deliv.errors import DelivError
from deliv.gateways.broker import STAGE, TRANSFER, Message
from deliv.http import monitoring, server
from deliv.ops import systemd
from deliv.ops.audit import AuditEntry, AuditEvent
from deliv.tasks.periodic import Periodic

log = structlog.get_logger()

HEALTH_EVERY = 5.0
CLOCK_EVERY = 5.0
RELOAD_EVERY = 30.0


class Runtime:
    """One instance of deliv. Instances share MariaDB and RabbitMQ; none is special."""

    def __init__(self, settings: Config) -> None:
        self._config = settings
        self._parts = build(settings)
        self._server = server.https_server(self._parts.services, self._parts.tls.context)
        self._monitoring = monitoring.server(self._parts.health.check_ready, settings.rest)
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._background: set[asyncio.Task[None]] = set()
        self._reload = Periodic("reload", RELOAD_EVERY, self.reload)
        self._periodics = [
            Periodic("watchdog", (systemd.watchdog_interval() or 60) / 3, self._feed_watchdog),
            Periodic("health", HEALTH_EVERY, self._parts.health.check_once),
            self._reload,
            Periodic("clock", CLOCK_EVERY, self._parts.clock_watch.note_once),
            self._parts.relay,
            self._parts.counting,
            *shared_periodics(self._parts, self._owner),
        ]
        self._parts.store.on_outbox = self._run_relay
        handler = self._parts.kinds.handler
        self._parts.broker.consume(
            {STAGE: handler(self._on_stage), TRANSFER: handler(self._on_transfer)},
            on_up=self._run_relay,
        )

    async def start(self) -> None:
        """Listen first: what can be served is served while dependencies are still coming."""
        parts, rest = self._parts, self._config.rest
        parts.audit.reopen()
        sockets = systemd.passed_sockets() or server.listen(rest.listen)
        self._server.add_sockets(sockets)
        self._monitoring.add_sockets(server.listen(self._config.monitoring))
        parts.broker.start()
        for periodic in self._periodics:
            periodic.start()
            self._spawn(periodic.run())
        await parts.health.check_once()
        parts.audit.write(
            AuditEntry(event=AuditEvent.SERVICE, reason=f"deliv {__version__} serves")
        )
        systemd.notify("READY=1")
        log.info("serving", version=__version__, listen=rest.listen)

    async def stop(self) -> None:
        """Accept no connection, answer the requests in flight within `rest.drain`, end."""
        parts, drain = self._parts, float(self._config.rest.drain)
        systemd.notify("STOPPING=1")
        log.info("draining")
        parts.health.draining = True
        for periodic in self._periodics:
            periodic.stop()
        self._server.stop()
        leased = asyncio.gather(*(periodic.let_go() for periodic in self._periodics))
        await asyncio.gather(
            parts.broker.stop(drain),
            _within(drain, self._server.finished()),
            _within(drain, leased),
        )
        await _within(1, self._server.close_all_connections())
        try:
            await parts.store.release_all(self._owner)
        except DelivError as error:
            log.warning("leases not handed on; they expire", reason=str(error))
        self._monitoring.stop()
        await _within(1, self._monitoring.close_all_connections())
        parts.close()
        parts.audit.settle()
        parts.audit.write(AuditEntry(event=AuditEvent.SERVICE, reason="deliv has stopped"))
        parts.audit.close()
        log.info("stopped")

    async def reload(self) -> None:
        """Certificates, CRLs and the policy, from their files; users' credentials that are over.

        The trust in callers comes first: no other failure may delay it.
        """
        self._parts.tls.reload()
        self._parts.policy.refresh()
        self._parts.audit.reopen()
        self._parts.users.tidy()
        self._parts.gauges.show_ends()

    def reload_now(self) -> None:
        self._spawn(self._reload.run())

    async def _on_stage(self, message: Message) -> None:
        await self._parts.engine.admit_next()

    async def _on_transfer(self, message: Message) -> None:
        await self._parts.engine.attend(message.job_id)

    def _run_relay(self) -> None:
        self._spawn(self._parts.relay.run())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # Even where a request has caused it, it is deliv's own work: it has that caller's context
        # neither in the log nor at the database.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _feed_watchdog(self) -> None:
        """systemd ends a process that does not report: its loop or its periodic work is stuck."""
        limit = self._config.sweeps.stuck
        stuck = [each.name for each in self._periodics if each.running_for() > limit]
        if stuck:
            log.error("periodic work is stuck; the watchdog is not fed", names=stuck)
        else:
            systemd.notify("WATCHDOG=1")


async def serve(settings: Config) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reloads."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    runtime = Runtime(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, runtime.reload_now)
    await runtime.start()
    await stopping.wait()
    await runtime.stop()


async def _within(seconds: float, work: Awaitable[object]) -> None:
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        log.warning("drain deadline passed; the rest is cut off")

"""The composition root: build the service from its configuration, start, drain, stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog

from deliv import __version__, config, failpoints
from deliv.config import Config
from deliv.db.database import Database
from deliv.delivery.delegation import CredentialDelegation
from deliv.delivery.ending.cancellation import Cancellation
from deliv.delivery.ending.cleanup import Cleanup
from deliv.delivery.ending.failure import FailureHandler
from deliv.delivery.endpoints import EndpointResolver
from deliv.delivery.engine import Engine
from deliv.delivery.permission import Permission
from deliv.delivery.poll import Polling
from deliv.delivery.stage import Staging
from deliv.delivery.submit import Submissions
from deliv.delivery.transfer import Transfers
from deliv.errors import DatabaseUnavailable, DelivError
from deliv.gateways.broker import Broker, Message
from deliv.gateways.fts import Fts
from deliv.gateways.fts.users import UserEndpoints
from deliv.gateways.https import HttpsClient
from deliv.gateways.issuer import Issuer
from deliv.gateways.stager import Stager
from deliv.http import monitoring, server
from deliv.http.call.base import Services
from deliv.identity.connection_identities import ConnectionIdentities
from deliv.identity.policy import LivePolicy
from deliv.identity.sealing import KeySealer
from deliv.identity.tls import ServerTls
from deliv.ops import logs, systemd
from deliv.ops.audit import AuditLog, Entry, Event, Outcome
from deliv.ops.token_buckets import TokenBuckets
from deliv.store import Delegations, Store, migrations
from deliv.tasks.delegations import DelegationJanitor
from deliv.tasks.health import Health, Probe
from deliv.tasks.leases import Lease, lives
from deliv.tasks.periodic import Periodic
from deliv.tasks.retention import Retention
from deliv.tasks.sweeps import Relay, Sweep

log = structlog.get_logger()

HEALTH_EVERY = 5.0
FIRST_CONNECTION = 2.0  # until the first look at the broker, so as not to look too early
RELOAD_EVERY = 30.0
NAMED = 5  # files that can't be used, in /ready and the log; the others are counted


class Runtime:
    """One instance of deliv. Instances share MariaDB and RabbitMQ; none is special."""

    def __init__(self, settings: Config) -> None:
        self.config = settings
        failpoints.install(settings.faults)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.database = Database(settings.database)
        self.store = Store(self.database)
        self.https = HttpsClient(settings.credential, settings.ca_directory)
        self.stager = Stager(settings.stager, self.https, f"{settings.rest.public_url}/doneStaging")
        self.fts = Fts(settings.fts, self.https)
        token = settings.stager.callback.token
        self.issuer = Issuer(token, settings.ca_directory) if token else None
        self.audit = AuditLog(settings.audit.file)
        self.policy = LivePolicy(settings.policy, on_reload=self._policy_changed)
        self.tls = ServerTls(
            settings.rest.certificate,
            settings.rest.key,
            settings.ca_directory,
            settings.crl,
            on_refusal=self._handshake_refused,
            vomsdir=settings.vomsdir,
            host=urlsplit(settings.rest.public_url).hostname or "",
        )
        self.delegations = Delegations(self.database)
        self.delegating = _delegating(self.delegations, settings.delegation)
        self.users = UserEndpoints(settings.fts, settings.ca_directory)
        self.copiers = EndpointResolver(self.fts, self.users, self.delegating)
        failing = FailureHandler(self.store, settings)
        self.staging = Staging(self.store, self.stager, failing, settings)
        self.transfers = Transfers(self.store, self.fts, self.copiers, failing, settings.sweeps)
        self.cancelling = Cancellation(self.store, self.transfers, failing, settings)
        closing = Cleanup(self.store, self.stager, self.transfers, settings.sweeps)
        permission = Permission(self.store, self.policy, self.cancelling, self.audit)
        self.engine = Engine(
            self.store,
            self.staging,
            self.transfers,
            self.cancelling,
            closing,
            permission,
            settings,
        )
        self.broker = Broker(
            settings.broker,
            {"deliv.stage": self._on_stage, "deliv.transfer": self._on_transfer},
            on_up=self._run_relay,
        )
        self._background: set[asyncio.Task[None]] = set()
        self.health = Health(self._probes(), self._breakers())
        self.relay = Periodic(
            "relay",
            settings.sweeps.every,
            Relay(self.store, self.broker, settings.sweeps).relay_once,
        )
        self.store.on_outbox = self._run_relay
        self._lives = lives(settings)
        self.periodics = self._periodics()

    async def start(self) -> None:
        """Listen first: what can be served is served while dependencies are still coming."""
        self._loop = asyncio.get_running_loop()
        self.audit.reopen()
        rest = self.config.rest
        sockets = systemd.passed_sockets() or server.listen(rest.listen)
        self.services = Services(
            submissions=Submissions(self.store, self.config.retention.keys),
            staging=self.staging,
            cancelling=self.cancelling,
            delegating=self.delegating,
            copiers=self.copiers,
            policy=self.policy,
            identities=ConnectionIdentities(self.tls),
            audit=self.audit,
            stager_role=self.config.stager.callback.certificate,
            issuer=self.issuer,
            rest=rest,
            rate=TokenBuckets(rest.requests_per_second, rest.requests_burst),
            trouble=self.health.trouble,
        )
        self._door = server.https_server(self.services, self.tls.context)
        self._door.add_sockets(sockets)
        self._status = monitoring.server(self.health.report, rest)
        self._status.add_sockets(server.listen(self.config.monitoring))
        self.broker.start()
        for periodic in self.periodics:
            periodic.start()
            self._spawn(periodic.run())
        await self.health.check_once()
        self.audit.write(Entry(event=Event.SERVICE, reason=f"deliv {__version__} serves"))
        systemd.notify("READY=1")
        log.info("serving", version=__version__, listen=self.config.rest.listen)

    async def stop(self) -> None:
        """Let nobody in, answer those inside within `rest.drain`, hand the leases on."""
        systemd.notify("STOPPING=1")
        log.info("draining")
        self.health.draining = True
        for periodic in self.periodics:
            periodic.stop()
        self._door.stop()
        drain = float(self.config.rest.drain)
        leased = asyncio.gather(*(periodic.let_go() for periodic in self.periodics))
        await asyncio.gather(
            self.broker.stop(drain), _within(drain, self._door.finished()), _within(drain, leased)
        )
        await _within(1, self._door.close_all_connections())
        await self._hand_on_leases()
        self._status.stop()
        await _within(1, self._status.close_all_connections())
        self.https.close()
        self.users.close()
        if self.issuer:
            self.issuer.close()
        self.database.close()
        self.audit.settle()
        self.audit.write(Entry(event=Event.SERVICE, reason="deliv has stopped"))
        self.audit.close()
        log.info("stopped")

    async def reload(self) -> None:
        """Certificates, CRLs and the policy, from their files; users' credentials that are over.

        The trust in callers comes first: no other failure may delay it.
        """
        self.tls.reload()
        self.policy.refresh()
        self.audit.reopen()
        self.users.tidy()

    def reload_now(self) -> None:
        self._spawn(next(p for p in self.periodics if p.name == "reload").run())

    async def _on_stage(self, message: Message) -> None:
        await self.engine.admit_next()

    async def _on_transfer(self, message: Message) -> None:
        await self.engine.attend(message.job_id)

    def _probes(self) -> dict[str, Probe]:
        probes: dict[str, Probe] = {
            "mariadb": self._probe_database,
            "rabbitmq": self._probe_broker,
            "stager": self._probe_stager,
            "audit": self._probe_audit,
            "files": self._probe_files,
        }
        if self.issuer:
            probes["issuer"] = self.issuer.probe
        for endpoint in self.fts.endpoints:
            probes[f"fts:{endpoint.name}"] = endpoint.probe
        return probes

    def _breakers(self) -> dict[str, Callable[[], str]]:
        breakers = {f"fts:{e.name}": e.breaker for e in self.fts.endpoints}
        breakers["stager"] = self.stager.breaker
        return {name: partial(getattr, b, "state") for name, b in breakers.items()}

    async def _probe_database(self) -> str:
        await self.database.ping()
        pending = await migrations.pending(self.database)
        if pending:
            raise DatabaseUnavailable(f"migrations are pending: {', '.join(pending)}")
        return "answers, schema is current"

    async def _probe_broker(self) -> str:
        await self.broker.settled(FIRST_CONNECTION)
        if not self.broker.ready:
            raise DelivError(self.broker.detail)
        return self.broker.detail

    async def _probe_stager(self) -> str:
        await self.stager.ping()
        return "answers"

    async def _probe_audit(self) -> str:
        return self.audit.check()

    async def _probe_files(self) -> str:
        """The files that are read again when they change, as of the last reload."""
        unusable = self.tls.unusable() + ([self.policy.broken] if self.policy.broken else [])
        if unusable:
            more = f"; and {len(unusable) - NAMED} more" if len(unusable) > NAMED else ""
            raise DelivError("; ".join(unusable[:NAMED]) + more)
        return "certificates, revocation lists and the policy can be used"

    def _handshake_refused(self, peer: str, reason: str) -> None:
        """On the handshake's thread, while the audit log is the loop's."""
        self._loop.call_soon_threadsafe(self.audit.refused_handshake, peer, reason)

    def _policy_changed(self, broken: str | None) -> None:
        result = Outcome.ALLOWED if broken is None else Outcome.REFUSED
        self.audit.write(Entry(event=Event.POLICY, outcome=result, reason=broken))

    def _periodics(self) -> list[Periodic]:
        sweeps, fts = self.config.sweeps, self.config.fts
        sweep = Sweep(self.store, self.engine, sweeps)
        periodics = [
            Periodic("watchdog", (systemd.watchdog_interval() or 60) / 3, self._feed_watchdog),
            Periodic("health", HEALTH_EVERY, self.health.check_once),
            Periodic("reload", RELOAD_EVERY, self.reload),
            self.relay,
            Periodic("sweep", sweeps.every, sweep.sweep_once, self._lease("sweep").held),
            self._retention(),
            *self._delegation(),
        ]
        for endpoint in self.fts.endpoints:
            polling = Polling(
                self.store, self.transfers, self.copiers, self.delegations, endpoint, fts.misses
            )
            poll, reconcile = f"poll:{endpoint.name}", f"reconcile:{endpoint.name}"
            periodics += [
                Periodic(poll, fts.poll_every, polling.poll_once, self._lease(poll).held),
                self._reconciliation(reconcile, polling),
            ]
        return periodics

    def _reconciliation(self, name: str, polling: Polling) -> Periodic:
        lease, fts = self._lease(name), self.config.fts
        body = partial(polling.reconcile_once, fts.poll_every * 4, lease.fence)
        return Periodic(name, fts.reconcile_every, body, lease.held)

    def _retention(self) -> Periodic:
        lease, settings = self._lease("retention"), self.config.retention
        body = Retention(self.store, lease, settings).retain_once
        return Periodic("retention", settings.every, body, lease.held)

    def _delegation(self) -> list[Periodic]:
        """What has to be done about credentials that users have delegated."""
        settings = self.config.delegation
        if self.delegating is None or settings is None:
            return []
        lease = self._lease("delegations")
        body = DelegationJanitor(self.delegating, lease).care_once
        return [Periodic("delegations", settings.every, body, lease.held)]

    def _run_relay(self) -> None:
        self._spawn(self.relay.run())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # Even where a request has caused it, it is deliv's own work: it has that caller's context
        # neither in the log nor at the database.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _lease(self, name: str) -> Lease:
        return Lease(self.store, name, self.owner, self._lives[name])

    async def _feed_watchdog(self) -> None:
        """systemd ends a process that is not heard of: one whose loop or whose sweeps are stuck."""
        stuck = [p.name for p in self.periodics if p.running_for() > self.config.sweeps.stuck]
        if stuck:
            log.error("periodic work is stuck; the watchdog is not fed", names=stuck)
        else:
            systemd.notify("WATCHDOG=1")

    async def _hand_on_leases(self) -> None:
        try:
            await self.store.release_all(self.owner)
        except DelivError as error:
            log.warning("leases not handed on; they expire", reason=str(error))


def _delegating(
    delegations: Delegations, settings: config.Delegation | None
) -> CredentialDelegation | None:
    if settings is None:
        return None
    return CredentialDelegation(delegations, KeySealer.load(settings.key_file), settings)


async def _within(seconds: float, work: Awaitable[object]) -> None:
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        log.warning("drain deadline passed; the rest is cut off")


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


def command(args: argparse.Namespace) -> int:
    """`deliv serve [--config F] [--check]`; exit code 1 when something is wrong."""
    try:
        settings = config.load(config.find(args.config))
        settings = config.instance(settings, args.instance)
        logs.configure(settings.log)
        if args.check:
            return asyncio.run(check(settings))
        asyncio.run(serve(settings))
    except DelivError as error:
        print(logs.escaped(f"deliv: {error}", "\n"), file=sys.stderr)
        return 1
    return 0


async def check(settings: Config) -> int:
    """Say of every dependency whether it answers, and what is wrong where it doesn't."""
    runtime = Runtime(settings)
    runtime.broker.start()
    await runtime.broker.settled(float(settings.database.connect_timeout))
    await runtime.health.check_once()
    report = runtime.health.report()
    for name, state in report["dependencies"].items():
        line = f"{'ok  ' if state['up'] else 'FAIL'} {name}: {state['detail']}"
        print(logs.escaped(line))
    await runtime.broker.stop(1)
    return 1 if report["waiting_for"] else 0

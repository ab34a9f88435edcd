"""Builds deliv's parts from its configuration: the one place that knows who needs whom.

    parts = build(settings)
    parts.store, parts.fts, parts.engine ...
    parts.close()

`deliv serve` (deliv/runtime.py), `deliv check`, `deliv queue` and tests build through it. A part is
made when it is asked for first: `deliv check` needs no host certificate and makes no audit log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast
from urllib.parse import urlsplit

from deliv.config import Config
from deliv.db.database import Database
from deliv.delivery.comparison import DestinationComparison
from deliv.delivery.delegation import CredentialDelegation
from deliv.delivery.ending.cancellation import Cancellation
from deliv.delivery.ending.cleanup import Cleanup
from deliv.delivery.ending.conclusion import Conclusion
from deliv.delivery.ending.failure import FailureHandler
from deliv.delivery.ending.file_results import FileResults
from deliv.delivery.ending.settlement import Settlement
from deliv.delivery.ending.withdrawal import Withdrawal
from deliv.delivery.endpoints import EndpointResolver
from deliv.delivery.engine import Engine
from deliv.delivery.patience import Patience
from deliv.delivery.permission import Permission
from deliv.delivery.poll import Polling
from deliv.delivery.retry import Retries
from deliv.delivery.stage import Staging
from deliv.delivery.submit import Submissions
from deliv.delivery.transfer import FtsTransfers
from deliv.errors import DelivError
from deliv.failpoints import Kinds, kinds
from deliv.gateways.broker import Broker
from deliv.gateways.fts import Fts
from deliv.gateways.fts.users import UserEndpoints
from deliv.gateways.gridftp import GridFtp
from deliv.gateways.https import HttpsClient
from deliv.gateways.issuer import Issuer
from deliv.gateways.stager import Stager
from deliv.http.services import Services
from deliv.identity.connection_identities import ConnectionIdentities
from deliv.identity.policy import LivePolicy
from deliv.identity.sealing import KeySealer
from deliv.identity.tls import ServerTls
from deliv.ops.audit import AuditEntry, AuditEvent, AuditLog, AuditOutcome
from deliv.ops.token_buckets import TokenBuckets
from deliv.store import Delegations, Store, migrations
from deliv.store.inspection import Inspection
from deliv.tasks.clock import ClockWatch
from deliv.tasks.delegations import DelegationJanitor
from deliv.tasks.gauges import Gauges
from deliv.tasks.health import Health, Probe, one_at_a_time
from deliv.tasks.leases import Lease
from deliv.tasks.periodic import Body, Periodic
from deliv.tasks.retention import Retention
from deliv.tasks.sweeps import Deadlines, Relay, Sweep

NAMED = 5  # files that can't be used, in /ready and the log; the others are counted


def build(settings: Config) -> Parts:
    return Parts(settings)


class Parts:
    """Each part once. What belongs to an event loop is asked for while that loop runs."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self._open = ExitStack()

    def close(self) -> None:
        """Close the connections of those that were made."""
        self._open.close()

    @cached_property
    def kinds(self) -> Kinds:
        return kinds(self.settings.faults)

    # What deliv keeps, and whom it calls

    @cached_property
    def database(self) -> Database:
        return self._open.enter_context(closing(self.kinds.database(self.settings.database)))

    @cached_property
    def store(self) -> Store:
        return self.kinds.store(self.database)

    @cached_property
    def delegations(self) -> Delegations:
        return Delegations(self.database)

    @cached_property
    def inspection(self) -> Inspection:
        return Inspection(self.database)

    @cached_property
    def broker(self) -> Broker:
        return Broker(self.settings.broker)

    @cached_property
    def https(self) -> HttpsClient:
        client = HttpsClient(self.settings.credential, self.settings.ca_directory)
        return self._open.enter_context(closing(client))

    @cached_property
    def stager(self) -> Stager:
        callback = f"{self.settings.rest.public_url}/doneStaging"
        return self.kinds.stager(self.settings.stager, self.https, callback)

    @cached_property
    def fts(self) -> Fts:
        return Fts(self.settings.fts, self.https, make=self.kinds.endpoint)

    @cached_property
    def users(self) -> UserEndpoints:
        users = UserEndpoints(
            self.settings.fts, self.settings.ca_directory, make=self.kinds.endpoint
        )
        return self._open.enter_context(closing(users))

    @cached_property
    def gridftp(self) -> GridFtp | None:
        settings = self.settings.gridftp
        if settings is None:
            return None
        return self.kinds.gridftp(settings, self.settings.ca_directory)

    @cached_property
    def issuer(self) -> Issuer | None:
        token = self.settings.stager.callback.token
        if token is None:
            return None
        return self._open.enter_context(closing(Issuer(token, self.settings.ca_directory)))

    # Who calls deliv, and what they may do

    @cached_property
    def audit(self) -> AuditLog:
        return AuditLog(self.settings.audit.file)

    @cached_property
    def policy(self) -> LivePolicy:
        def changed(broken: str | None) -> None:
            result = AuditOutcome.ALLOWED if broken is None else AuditOutcome.REFUSED
            self.audit.write(AuditEntry(event=AuditEvent.POLICY, outcome=result, reason=broken))

        return LivePolicy(self.settings.policy, on_reload=changed)

    @cached_property
    def tls(self) -> ServerTls:
        loop, audit = asyncio.get_running_loop(), self.audit

        def refused(peer: str, reason: str, subject: str | None) -> None:
            """On the handshake's thread, while the audit log is the loop's."""
            loop.call_soon_threadsafe(audit.refused_handshake, peer, reason, subject)

        return ServerTls(
            self.settings.rest.certificate,
            self.settings.rest.key,
            self.settings.ca_directory,
            self.settings.crl,
            on_refusal=refused,
            vomsdir=self.settings.vomsdir,
            host=urlsplit(self.settings.rest.public_url).hostname or "",
        )

    # Delivery

    @cached_property
    def delegating(self) -> CredentialDelegation | None:
        settings = self.settings.delegation
        if settings is None:
            return None
        return CredentialDelegation(self.delegations, KeySealer.load(settings.key_file), settings)

    @cached_property
    def endpoints(self) -> EndpointResolver:
        return EndpointResolver(self.fts, self.users, self.delegating)

    @cached_property
    def failures(self) -> FailureHandler:
        return self.kinds.failures(self.store, self.settings)

    @cached_property
    def submissions(self) -> Submissions:
        settings = self.settings
        return Submissions(self.store, settings.retention.keys, settings.limits)

    @cached_property
    def staging(self) -> Staging:
        return Staging(self.store, self.stager, self.failures, self.settings)

    @cached_property
    def withdrawal(self) -> Withdrawal:
        return Withdrawal(self.store, self.endpoints, self.failures)

    @cached_property
    def transfers(self) -> FtsTransfers:
        return FtsTransfers(
            self.store,
            self.fts,
            self.endpoints,
            self.failures,
            self.withdrawal,
            self.conclusion,
            self.file_results,
            self.patience,
            self.settings,
        )

    @cached_property
    def settlement(self) -> Settlement:
        return Settlement(self.store, self.failures, self.comparison, self.file_results)

    @cached_property
    def comparison(self) -> DestinationComparison:
        return DestinationComparison(self.gridftp, self.https, self.delegating)

    @cached_property
    def file_results(self) -> FileResults:
        return FileResults(
            self.store, self.failures, self.conclusion, self.comparison, self.settings
        )

    @cached_property
    def conclusion(self) -> Conclusion:
        return Conclusion(self.store, self.failures)

    @cached_property
    def cancellation(self) -> Cancellation:
        return Cancellation(
            self.store, self.withdrawal, self.settlement, self.failures, self.settings
        )

    @cached_property
    def patience(self) -> Patience:
        return Patience(self.store, self.stager, self.failures, self.settings)

    @cached_property
    def engine(self) -> Engine:
        return Engine(
            self.store,
            self.staging,
            self.transfers,
            self.cancellation,
            Cleanup(self.store, self.stager, self.withdrawal, self.settings),
            Permission(self.store, self.policy, self.cancellation, self.audit),
            self.patience,
            self.settings,
        )

    @cached_property
    def polling(self) -> dict[str, Polling]:
        """By the name of the FTS endpoint."""
        parts = self.store, self.settlement, self.endpoints
        return {each.name: Polling(*parts, each, self.settings) for each in self.fts.endpoints}

    # What serves

    @cached_property
    def services(self) -> Services:
        rest = self.settings.rest
        return Services(
            submissions=self.submissions,
            retries=Retries(self.store),
            staging=self.staging,
            cancellation=self.cancellation,
            delegation=self.delegating,
            endpoints=self.endpoints,
            policy=self.policy,
            identities=ConnectionIdentities(self.tls),
            audit=self.audit,
            stager_role=self.settings.stager.callback.certificate,
            issuer=self.issuer,
            reports=self.settings.stager.callback,
            rest=rest,
            rate=TokenBuckets(rest.requests_per_second, rest.requests_burst),
            outage=self.health.trouble,
        )

    @cached_property
    def health(self) -> Health:
        async def mariadb() -> str:
            await self.database.check_ready()
            await migrations.check_applied(self.database)
            await self.store.check_writable()
            doubt = self.database.clock.doubt()
            return "answers, schema is current" + (f"; {doubt}" if doubt else "")

        async def audit() -> str:
            return self.audit.check()

        async def files() -> str:
            """Those that are read again when they change; of `tls`, as of the last reload."""
            others = self.policy.broken, self.https.broken
            unusable = self.tls.unusable() + [broken for broken in others if broken]
            if unusable:
                more = f"; and {len(unusable) - NAMED} more" if len(unusable) > NAMED else ""
                raise DelivError("; ".join(unusable[:NAMED]) + more)
            return "certificates, revocation lists and the policy can be used"

        probes: dict[str, Probe] = {
            "mariadb": one_at_a_time(mariadb),
            "rabbitmq": one_at_a_time(self.broker.probe),
            "stager": self.stager.probe,
            "audit": audit,
            "files": files,
        }
        breakers = {
            "stager": {
                "breaker": self.stager.breaker,
                "release_breaker": self.stager.release_breaker,
            }
        }
        if self.issuer:
            probes["issuer"] = self.issuer.probe
        for endpoint in self.fts.endpoints:
            probes[f"fts:{endpoint.name}"] = endpoint.probe
            breakers[f"fts:{endpoint.name}"] = {
                "breaker": endpoint.breaker,
                "cancel_breaker": endpoint.cancel_breaker,
            }
        states = {
            name: {shown: partial(getattr, one, "state") for shown, one in own.items()}
            for name, own in breakers.items()
        }
        return Health(probes, states)

    @cached_property
    def gauges(self) -> Gauges:
        limits = self.settings.limits.staging
        return Gauges(self.store, self.tls, lambda: self.https.credential[0], limits)

    @cached_property
    def clock_watch(self) -> ClockWatch:
        return ClockWatch(self.store, float(self.settings.sweeps.hold))

    @cached_property
    def counting(self) -> Periodic:
        """Every instance runs it: each one's metrics are right."""
        return Periodic("counts", self.settings.sweeps.every, self.gauges.count_once)

    @cached_property
    def relay(self) -> Periodic:
        """Every instance runs it: a row of the outbox is claimed by one of them."""
        sweeps = self.settings.sweeps
        return Periodic("relay", sweeps.every, Relay(self.store, self.broker, sweeps).relay_once)


@dataclass(frozen=True, kw_only=True)
class SharedWork:
    """Periodic work that one instance at a time does; `name` is that of its lease.

    `every` in seconds. `body` makes what is run, once for each instance.
    """

    name: str
    every: float
    body: Callable[[Parts, Lease], Body]


def shared_work(settings: Config) -> list[SharedWork]:
    """The table of it. What every instance does for itself is in deliv/runtime.py."""
    sweeps, retention, fts = settings.sweeps, settings.retention, settings.fts
    table = [
        SharedWork(
            name="sweep",
            every=sweeps.every,
            body=lambda parts, _lease: Sweep(parts.store, parts.engine, sweeps).sweep_once,
        ),
        SharedWork(
            name="deadlines",
            every=sweeps.every,
            body=lambda parts, _lease: Deadlines(parts.store, parts.engine, sweeps).enforce_once,
        ),
        SharedWork(
            name="rests",
            every=sweeps.every,
            body=lambda parts, _lease: parts.patience.keep_trying,
        ),
        SharedWork(
            name="retention",
            every=retention.every,
            body=lambda parts, lease: Retention(parts.store, lease, retention).retain_once,
        ),
    ]
    if settings.delegation:
        table.append(SharedWork(name="delegations", every=settings.delegation.every, body=_janitor))
    for name in fts.endpoints:
        table += [
            SharedWork(name=f"poll:{name}", every=fts.poll_every, body=partial(_poll, name)),
            SharedWork(
                name=f"reconcile:{name}",
                every=fts.reconcile_every,
                body=partial(_reconcile, name),
            ),
        ]
    return table


def lease_ttls(settings: Config) -> dict[str, float]:
    """The lease of each shared work, in seconds.

    It outlives the pause between two runs, so that no other instance runs in between.
    """
    shortest = settings.sweeps.lease
    return {work.name: max(shortest, 1.5 * work.every) for work in shared_work(settings)}


def shared_periodics(parts: Parts, owner: str) -> list[Periodic]:
    """The table's work, run by the instance `owner` while it has the lease."""
    ttls, periodics = lease_ttls(parts.settings), []
    for work in shared_work(parts.settings):
        lease = Lease(parts.store, work.name, owner, ttls[work.name])
        periodics.append(Periodic(work.name, work.every, work.body(parts, lease), lease.held))
    return periodics


def _janitor(parts: Parts, lease: Lease) -> Body:
    delegating = cast(CredentialDelegation, parts.delegating)  # `delegation` is configured
    return DelegationJanitor(delegating, lease).care_once


def _poll(name: str, parts: Parts, _lease: Lease) -> Body:
    return parts.polling[name].poll_once


def _reconcile(name: str, parts: Parts, lease: Lease) -> Body:
    older_than = parts.settings.fts.poll_every * 4
    return partial(parts.polling[name].reconcile_once, older_than, lease.fence)

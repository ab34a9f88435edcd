"""What the calls need from the rest of deliv."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from deliv.config import Rest
from deliv.delivery.delegation import CredentialDelegation
from deliv.delivery.ending.cancellation import Cancellation
from deliv.delivery.endpoints import EndpointResolver
from deliv.delivery.stage import Staging
from deliv.delivery.submit import Submissions
from deliv.gateways.issuer import Issuer
from deliv.http.connections.in_flight import InFlight
from deliv.identity.connection_identities import ConnectionIdentities
from deliv.identity.policy import LivePolicy
from deliv.ops.audit import AuditLog
from deliv.ops.token_buckets import TokenBuckets


@dataclass(frozen=True, kw_only=True)
class Services:
    submissions: Submissions
    staging: Staging
    cancellation: Cancellation
    delegation: CredentialDelegation | None
    endpoints: EndpointResolver
    policy: LivePolicy
    identities: ConnectionIdentities
    audit: AuditLog
    stager_role: bool  # the stager's certificate must have the role `stager`
    issuer: Issuer | None  # the stager must bring an access token of this issuer
    rest: Rest
    rate: TokenBuckets  # of each caller's requests
    outage: Callable[[str], str | None]  # why a dependency is down; None: it is not
    in_flight: InFlight = field(default_factory=InFlight)

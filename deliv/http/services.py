"""What the calls need from the rest of deliv."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from deliv.config import Callback, Rest
from deliv.db.fair_queue import FairQueue
from deliv.delivery.delegation import CredentialDelegation
from deliv.delivery.ending.cancellation import Cancellation
from deliv.delivery.endpoints import EndpointResolver
from deliv.delivery.retry import Retries
from deliv.delivery.stage import Staging
from deliv.delivery.submit import Submissions
from deliv.gateways.issuer import Issuer
from deliv.http.connections.in_flight import InFlight
from deliv.identity.connection_identities import ConnectionIdentities
from deliv.identity.policy import LivePolicy
from deliv.ops.audit import AuditLog
from deliv.ops.token_buckets import TokenBuckets

# One of a caller at once, whose body is in memory; the others have not been read yet.
MANY: Mapping[str, Any] = MappingProxyType(
    {"places": 4, "per_caller": 1, "for_callers": 4, "waiting": 16, "what": "their turn"}
)
# Reports in JSON that are in memory at once.
LONG_REPORTS: Mapping[str, Any] = MappingProxyType(
    {"places": 4, "per_caller": 4, "for_callers": 4, "waiting": 500, "what": "their turn"}
)


@dataclass(frozen=True, kw_only=True)
class Services:
    submissions: Submissions
    retries: Retries
    staging: Staging
    cancellation: Cancellation
    delegation: CredentialDelegation | None
    endpoints: EndpointResolver
    policy: LivePolicy
    identities: ConnectionIdentities
    audit: AuditLog
    stager_role: bool  # the stager's certificate must have the role `stager`
    issuer: Issuer | None  # the stager must bring an access token of this issuer
    reports: Callback  # how much the stager may report
    rest: Rest
    rate: TokenBuckets  # of each caller's requests
    outage: Callable[[str], str | None]  # why a dependency is down; None: it is not
    in_flight: InFlight = field(default_factory=InFlight)
    many: FairQueue = field(default_factory=partial(FairQueue, **MANY))  # for calls of many items
    long_reports: FairQueue = field(default_factory=partial(FairQueue, **LONG_REPORTS))

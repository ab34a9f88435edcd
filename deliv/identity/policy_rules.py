"""The rules of a policy file: whom each one is for, and what it lets them do or denies.

config/policy.example.yaml explains every key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

from deliv.identity import dn_patterns, hosts
from deliv.identity.voms import fqan

Matcher = Callable[[str, tuple[str, ...]], bool]


class Role(StrEnum):
    SUBMITTER = "submitter"
    OPERATOR = "operator"
    STAGER = "stager"


class Action(StrEnum):
    SUBMIT = "submit"
    STATUS = "status"
    EVENTS = "events"
    LIST = "list"
    CANCEL = "cancel"
    STAGE_REPORT = "stage_report"
    WHOAMI = "whoami"
    DELEGATE = "delegate"


class CopyAs(StrEnum):
    """Under whose identity a job may be copied: that of its user needs a delegated credential."""

    EITHER = "either"
    USER = "user"
    SERVICE = "service"


# A limited proxy may read; these it may do only by a rule with allow_limited.
ACTING = frozenset({Action.SUBMIT, Action.CANCEL, Action.STAGE_REPORT, Action.DELEGATE})
NEEDED = {
    Action.SUBMIT: Role.SUBMITTER,
    Action.DELEGATE: Role.SUBMITTER,
    Action.STAGE_REPORT: Role.STAGER,
}


@dataclass(frozen=True, kw_only=True)
class AccessRequest:
    """What is to be decided. `owner` None is the jobs of all; `unfinished` None is not counted."""

    dn: str
    fqans: tuple[str, ...]
    limited: bool
    action: Action
    owner: str | None = None
    destination_host: str | None = None
    unfinished: int | None = None

    @property
    def phrase(self) -> str:
        """What the caller wants to do, for sentences."""
        if self.action is Action.SUBMIT:
            return "submit transfers"
        if self.action is Action.STAGE_REPORT:
            return "report on staging"
        if self.action is Action.DELEGATE:
            return "delegate a credential"
        verb = {Action.CANCEL: "cancel", Action.LIST: "list"}.get(self.action, "see")
        whose = "their own transfers" if self.owner == self.dn else "the transfers of others"
        return f"{verb} {whose}"


class CallerRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom a rule is for. `dn` or `fqan` None: any; at least one is given."""

    dn: str | None = None
    fqan: str | None = None

    def __post_init__(self) -> None:
        if self.dn is None and self.fqan is None:
            raise ValueError("a rule is for a dn, for a fqan, or for both")
        self.matcher()

    @property
    def who(self) -> str:
        return " with ".join(part for part in (self.dn, self.fqan) if part)

    def matcher(self) -> Matcher:
        """Whether the rule is for a caller, as a predicate on the DN and the FQANs."""
        is_dn = dn_patterns.compiled(self.dn) if self.dn is not None else lambda dn: True
        if self.fqan is None:
            return lambda dn, fqans: is_dn(dn)
        is_fqan = fqan.compiled(self.fqan)
        return lambda dn, fqans: is_dn(dn) and any(map(is_fqan, fqans))


class DenyRule(CallerRule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may do nothing, whatever other rules say."""


class PolicyRule(CallerRule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may do what."""

    roles: Annotated[tuple[Role, ...], msgspec.Meta(min_length=1)]
    destinations: tuple[str, ...] = ()
    quota: Annotated[int, msgspec.Meta(ge=1)] | None = None
    allow_limited: bool = False
    copy_as: CopyAs = CopyAs.EITHER

    def __post_init__(self) -> None:
        super().__post_init__()
        for destination in self.destinations:
            hosts.compiled(destination)
        if Role.SUBMITTER in self.roles and not self.destinations:
            raise ValueError('a submitter needs destinations; ["*"] is every host')
        if Role.SUBMITTER not in self.roles and (self.destinations or self.quota):
            raise ValueError("destinations and quota are for submitters")

    def covers(self, request: AccessRequest) -> bool:
        """Whether the roles are the right ones for the action."""
        if request.action is Action.WHOAMI:  # needs no role
            return True
        needed = NEEDED.get(request.action)
        if needed is not None:
            return needed in self.roles
        own = request.owner == request.dn and Role.SUBMITTER in self.roles
        return own or Role.OPERATOR in self.roles

    def objection(self, request: AccessRequest) -> str | None:
        """Why this rule does not allow it; None when it does."""
        if not self.covers(request):
            return f"its roles do not let {request.dn} {request.phrase}"
        if request.limited and request.action in ACTING and not self.allow_limited:
            return "a limited proxy may only look at transfers"
        if request.action is Action.SUBMIT:
            host = request.destination_host or ""
            if not any(hosts.compiled(pattern)(host) for pattern in self.destinations):
                return f"{request.dn} may not deliver to {host or 'a host that is not named'}"
            if self.quota is not None and (request.unfinished or 0) >= self.quota:
                return f"{request.dn} has {request.unfinished} unfinished jobs, its quota"
        return None


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rules: tuple[PolicyRule, ...]
    deny: tuple[DenyRule, ...] = ()

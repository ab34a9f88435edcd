"""Who may do what: a YAML file of rules, each for DNs, for VOMS attributes (FQANs), or for both.

What no rule allows is refused. config/policy.example.yaml explains every key.

In a pattern of DNs `?` stands for one character and `*` for any number of them, both within the
value of one attribute: neither matches the `/` or `+` that begins another one, so that nobody gets
past `/O=Example/CN=*` with a longer name. `/**` at the end stands for one or more further parts. An
escaped `\\/` or `\\+` is part of a value. For patterns of FQANs see deliv/identity/voms/fqan.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog

from deliv import documents
from deliv.errors import ConfigError
from deliv.identity import hosts, patterns
from deliv.identity.voms import fqan
from deliv.identity.x509.chain import Identity
from deliv.ops.files import WatchedFiles, reason

log = structlog.get_logger()

CHARACTER = r"(?:\\.|[^/+\\])"  # one of an attribute's value
BELOW = "/**"
REMEMBERED = 4096  # callers whose rules are not looked for again


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
class Decision:
    """`reason` is a sentence for the caller, `rule` the rule that decided, if one did.

    Of an allowed submission: `quota` is how many unfinished jobs the caller may have with this one,
    None is no limit; `copy_as` under whose identity it may be copied.
    """

    allowed: bool
    reason: str
    rule: str | None = None
    quota: int | None = None
    copy_as: CopyAs = CopyAs.SERVICE


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be decided. `owner` None is everybody's jobs; `unfinished` None is not counted."""

    dn: str
    fqans: tuple[str, ...]
    limited: bool
    action: Action
    owner: str | None
    destination_host: str | None
    unfinished: int | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A decision, and of every rule for this caller what it says: pairs of rule and sentence."""

    action: Action
    decision: Decision
    considered: tuple[tuple[str, str], ...]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dn` or `fqan` None: whatever it is; at least one is given."""

    dn: str | None = None
    fqan: str | None = None
    roles: Annotated[tuple[Role, ...], msgspec.Meta(min_length=1)]
    destinations: tuple[str, ...] = ()
    quota: Annotated[int, msgspec.Meta(ge=1)] | None = None
    allow_limited: bool = False
    copy_as: CopyAs = CopyAs.EITHER

    def __post_init__(self) -> None:
        if self.dn is None and self.fqan is None:
            raise ValueError("a rule is for a dn, for a fqan, or for both")
        self.matcher()
        for destination in self.destinations:
            hosts.compiled(destination)
        if Role.SUBMITTER in self.roles and not self.destinations:
            raise ValueError('a submitter needs destinations; ["*"] stands for every host')
        if Role.SUBMITTER not in self.roles and (self.destinations or self.quota):
            raise ValueError("destinations and quota are for submitters")

    @property
    def who(self) -> str:
        return " with ".join(part for part in (self.dn, self.fqan) if part)

    def matcher(self) -> Matcher:
        """Whom the rule is for, as a predicate on a DN and the caller's FQANs."""
        is_dn = compiled(self.dn) if self.dn is not None else lambda dn: True
        if self.fqan is None:
            return lambda dn, fqans: is_dn(dn)
        is_fqan = fqan.compiled(self.fqan)
        return lambda dn, fqans: is_dn(dn) and any(map(is_fqan, fqans))

    def covers(self, request: Request) -> bool:
        """Whether the roles are the right ones for the action."""
        needed = NEEDED.get(request.action)
        if needed is not None:
            return needed in self.roles
        own = request.owner == request.dn and Role.SUBMITTER in self.roles
        return own or Role.OPERATOR in self.roles

    def objection(self, request: Request) -> str | None:
        """Why this rule does not allow it; None when it does."""
        if not self.covers(request):
            return f"its roles do not let {request.dn} {_phrase(request)}"
        if request.limited and request.action in ACTING and not self.allow_limited:
            return "a limited proxy may only look at transfers"
        if request.action is not Action.SUBMIT:
            return None
        return self._submission_objection(request)

    def _submission_objection(self, request: Request) -> str | None:
        host = request.destination_host or ""
        if not any(hosts.compiled(pattern)(host) for pattern in self.destinations):
            return f"{request.dn} may not deliver to {host or 'a host that is not named'}"
        if self.quota is not None and (request.unfinished or 0) >= self.quota:
            return f"{request.dn} has {request.unfinished} unfinished jobs, its quota"
        return None


Matcher = Callable[[str, tuple[str, ...]], bool]


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rules: tuple[Rule, ...]


class Policy:
    """The rules of one policy file."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = [(f"rules[{n}] {rule.who}", rule) for n, rule in enumerate(rules)]
        self._matchers = [rule.matcher() for rule in rules]
        self._rules_of = lru_cache(REMEMBERED)(self._find_rules)

    @classmethod
    def load(cls, path: Path) -> Policy:
        """ConfigError, with the place in the file, when it is not a policy."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def parse(cls, text: str) -> Policy:
        """ValueError, with the place in the text, when it is not a policy."""
        return cls(documents.parse(text, Rules).rules)

    def roles(self, identity: Identity) -> frozenset[Role]:
        rules = self._rules_of(identity.dn, identity.attributes.fqans)
        return frozenset(role for _, rule in rules for role in rule.roles)

    def decide(
        self,
        identity: Identity,
        action: str,
        *,
        owner: str | None = None,
        destination_host: str | None = None,
        unfinished: int | None = None,
    ) -> Decision:
        """Whether `identity` may do this; what no rule allows is refused.

        `owner` is the DN whose jobs `status`, `events`, `list` and `cancel` are about; without one
        they are about everybody's. `submit` needs the `destination_host` and, where the rule has a
        quota, the caller's `unfinished` jobs: without them the caller of this has to hold
        `Decision.quota` itself. ValueError for an action that there isn't.
        """
        return self._decide(
            Request(
                dn=identity.dn,
                fqans=identity.attributes.fqans,
                limited=identity.limited,
                action=Action(action),
                owner=owner,
                destination_host=destination_host,
                unfinished=unfinished,
            )
        )

    def reconsider(
        self, dn: str, *, fqans: tuple[str, ...], limited: bool, destination_host: str
    ) -> Decision:
        """Whether what was submitted with these attributes might be now, but for the quota."""
        return self._decide(
            Request(
                dn=dn,
                fqans=fqans,
                limited=limited,
                action=Action.SUBMIT,
                owner=None,
                destination_host=destination_host,
                unfinished=None,
            )
        )

    def explain(
        self,
        dn: str,
        action: str,
        *,
        fqans: tuple[str, ...] = (),
        limited: bool = False,
        owner: str | None = None,
        destination_host: str | None = None,
        unfinished: int | None = None,
    ) -> Explanation:
        """The decision on a DN with these FQANs, and what each rule for them says."""
        request = Request(
            dn=dn,
            fqans=fqans,
            limited=limited,
            action=Action(action),
            owner=owner,
            destination_host=destination_host,
            unfinished=unfinished,
        )
        rules = self._rules_of(dn, fqans)
        considered = ((name, rule.objection(request) or "allows it") for name, rule in rules)
        decision = self._decide(request)
        return Explanation(action=request.action, decision=decision, considered=tuple(considered))

    def _decide(self, request: Request) -> Decision:
        if request.action is Action.WHOAMI:
            return Decision(allowed=True, reason="everybody may ask who they are")
        rules = self._rules_of(request.dn, request.fqans)
        covering = [named for named in rules if named[1].covers(request)]
        objections = [(name, rule, rule.objection(request)) for name, rule in covering]
        for name, rule, objection in objections:
            if objection is None:
                return Decision(
                    allowed=True,
                    reason="allowed",
                    rule=name,
                    quota=rule.quota,
                    copy_as=rule.copy_as,
                )
        for name, _, objection in objections:
            return Decision(allowed=False, reason=str(objection), rule=name)
        reason = f"no rule lets {request.dn} {_phrase(request)}"
        return Decision(allowed=False, reason=reason)

    def _find_rules(self, dn: str, fqans: tuple[str, ...]) -> list[tuple[str, Rule]]:
        pairs = zip(self._matchers, self._rules, strict=True)
        return [named for matches, named in pairs if matches(dn, fqans)]


OnReload = Callable[[str | None], None]


class LivePolicy:
    """A policy file, looked at with each decision. A broken one is reported, and the old one stays.

    `on_reload` is called with None after a good change and with what is wrong after a bad one;
    both are logged besides. `broken` says what is wrong with the file now, `changed` since when the
    rules in force are there.
    """

    def __init__(self, path: Path, *, on_reload: OnReload | None = None) -> None:
        self._path = path
        self._on_reload = on_reload
        self._file = WatchedFiles(_rules, path)
        self._file.refresh()
        if self.broken is not None:
            raise ConfigError(self.broken)

    @property
    def broken(self) -> str | None:
        error = self._file.broken
        return None if error is None else f"{self._path}: {reason(error)}"

    @property
    def changed(self) -> datetime:
        return self._file.value[0]

    def refresh(self) -> bool:
        """Look at the file; True when another policy is in force than before."""
        before = self.broken
        changed = self._file.refresh()
        if changed:
            self._tell(None)
        elif self.broken != before:
            self._tell(self.broken)
        return changed

    def roles(self, identity: Identity) -> frozenset[Role]:
        self.refresh()
        return self._file.value[1].roles(identity)

    def decide(self, identity: Identity, action: str, **context: Any) -> Decision:
        """See Policy.decide."""
        self.refresh()
        return self._file.value[1].decide(identity, action, **context)

    def reconsider(self, dn: str, **context: Any) -> Decision:
        """See Policy.reconsider."""
        self.refresh()
        return self._file.value[1].reconsider(dn, **context)

    def _tell(self, broken: str | None) -> None:
        if broken is None:
            log.info("policy reloaded", path=str(self._path))
        else:
            log.error("the new policy is broken, the old one stays in force", reason=broken)
        if self._on_reload is not None:
            self._on_reload(broken)


def _rules(path: Path) -> tuple[datetime, Policy]:
    """The rules, and when their file was put in place: a copy may keep its time of writing."""
    changed = datetime.fromtimestamp(path.stat().st_ctime, UTC)
    return changed, Policy.parse(path.read_text(encoding="utf-8"))


def compiled(pattern: str) -> Callable[[str], bool]:
    """A DN or a pattern of DNs as a predicate; ValueError when it is neither."""
    if pattern != BELOW and not re.match(r"/[^/+=]+=", pattern):
        raise ValueError(f"expected a DN like /O=Example/CN=Alice, got {pattern!r}")
    if not pattern.isascii() or not pattern.isprintable():
        raise ValueError(f"characters that aren't ASCII are written \\xHH in a DN, got {pattern!r}")
    body = pattern.removesuffix(BELOW)
    if "**" in body or (body != pattern and body.endswith("\\")):
        raise ValueError(f"'**' stands only after a last '/', got {pattern!r}")
    rest = f"(?:[/+]{CHARACTER}+)+" if body != pattern else ""
    expression = patterns.compiled(body, one=CHARACTER, many=f"{CHARACTER}*", rest=rest)
    return lambda dn: dn == pattern or expression.fullmatch(dn) is not None


def _phrase(request: Request) -> str:
    if request.action is Action.SUBMIT:
        return "submit transfers"
    if request.action is Action.STAGE_REPORT:
        return "report on staging"
    if request.action is Action.DELEGATE:
        return "delegate a credential"
    verb = {Action.CANCEL: "cancel", Action.LIST: "list"}.get(request.action, "see")
    whose = "their own transfers" if request.owner == request.dn else "the transfers of others"
    return f"{verb} {whose}"

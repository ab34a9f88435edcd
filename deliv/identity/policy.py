"""Who may do what: decisions by the rules of a policy file, which is read again when it changes.

A deny rule counts before all others. What no rule allows is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import structlog

from deliv import documents
from deliv.errors import ConfigError
from deliv.identity.policy_rules import (
    AccessRequest,
    Action,
    CallerRule,
    CopyAs,
    DenyRule,
    PolicyRule,
    Role,
    Rules,
)
from deliv.identity.x509.chain import Identity
from deliv.ops.files import WatchedFiles, reason

log = structlog.get_logger()

REMEMBERED = 4096  # callers whose rules are cached
R = TypeVar("R", bound=CallerRule)
RulesOf = Callable[[str, tuple[str, ...]], list[tuple[str, R]]]


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
class Explanation:
    """A decision, and the result of each rule for this caller: pairs of rule and sentence."""

    action: Action
    decision: Decision
    considered: tuple[tuple[str, str], ...]


class Policy:
    """The rules of one policy file."""

    def __init__(self, rules: Sequence[PolicyRule], deny: Sequence[DenyRule] = ()) -> None:
        self._rules_of = _finder("rules", rules)
        self._denials_of = _finder("deny", deny)

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
        written = documents.parse(text, Rules)
        return cls(written.rules, written.deny)

    def denial(self, dn: str, fqans: tuple[str, ...]) -> Decision | None:
        """The refusal of whoever a deny rule is for, in all that they may ask for."""
        for name, _ in self._denials_of(dn, fqans):
            reason = f"the policy denies {dn} all use of deliv"
            return Decision(allowed=False, reason=reason, rule=name)
        return None

    def roles(self, identity: Identity) -> frozenset[Role]:
        dn, fqans = identity.dn, identity.attributes.fqans
        rules = [] if self.denial(dn, fqans) else self._rules_of(dn, fqans)
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
        """Whether `identity` may do this; what a deny rule denies or no rule allows is refused.

        `owner` is the DN whose jobs `status`, `events`, `list` and `cancel` are about; without one
        they are about the jobs of all. `submit` needs the `destination_host` and, where the rule
        has a quota, the number of the user's `unfinished` jobs: without it `Decision.quota` has to
        be checked elsewhere. ValueError for an unknown action.
        """
        return self._decide(
            AccessRequest(
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
        """Whether a job that was submitted with these attributes might be now, ignoring quotas."""
        return self._decide(
            AccessRequest(
                dn=dn,
                fqans=fqans,
                limited=limited,
                action=Action.SUBMIT,
                destination_host=destination_host,
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
        """The decision on a DN with these FQANs, and the result of each rule for them."""
        request = AccessRequest(
            dn=dn,
            fqans=fqans,
            limited=limited,
            action=Action(action),
            owner=owner,
            destination_host=destination_host,
            unfinished=unfinished,
        )
        denying = [(name, "denies everything") for name, _ in self._denials_of(dn, fqans)]
        others = [
            (name, rule.objection(request) or "allows it")
            for name, rule in self._rules_of(dn, fqans)
        ]
        decision, considered = self._decide(request), (*denying, *others)
        return Explanation(action=request.action, decision=decision, considered=considered)

    def _decide(self, request: AccessRequest) -> Decision:
        if denied := self.denial(request.dn, request.fqans):
            return denied
        if request.action is Action.WHOAMI:
            return Decision(allowed=True, reason="everybody may ask who they are")
        rules = self._rules_of(request.dn, request.fqans)
        objections = [
            (name, rule, rule.objection(request)) for name, rule in rules if rule.covers(request)
        ]
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
        reason = f"no rule lets {request.dn} {request.phrase}"
        return Decision(allowed=False, reason=reason)


def _finder(key: str, rules: Sequence[R]) -> RulesOf[R]:
    """Finds the rules for a DN and FQANs, each with its name."""
    named = [(f"{key}[{n}] {rule.who}", rule, rule.matcher()) for n, rule in enumerate(rules)]

    @lru_cache(REMEMBERED)
    def rules_of(dn: str, fqans: tuple[str, ...]) -> list[tuple[str, R]]:
        return [(name, rule) for name, rule, matches in named if matches(dn, fqans)]

    return rules_of


OnReload = Callable[[str | None], None]


class LivePolicy:
    """A policy file, checked with each decision. A broken one is reported, and the old one stays.

    `on_reload` is called with None after a good change and with what is wrong after a bad one;
    both are logged too. `broken` says what is wrong with the file now; `changed` is when the file
    with the rules in force was put in place.
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
            self._report(None)
        elif self.broken != before:
            self._report(self.broken)
        return changed

    def denial(self, dn: str, fqans: tuple[str, ...]) -> Decision | None:
        """See Policy.denial."""
        self.refresh()
        return self._file.value[1].denial(dn, fqans)

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

    def _report(self, broken: str | None) -> None:
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

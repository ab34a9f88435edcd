"""The policy: what is read, what is refused, who may do what."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deliv.errors import ConfigError
from deliv.identity.policy import LivePolicy, Policy
from deliv.identity.policy_rules import Action, CopyAs, Role
from deliv.identity.x509.chain import Attributes, Identity

EXAMPLE = Path(__file__).parents[2] / "config" / "policy.example.yaml"
ALICE, BOB = "/O=Grid/OU=users/CN=alice", "/O=Grid/OU=users/CN=bob"
OPERATOR, STAGER = "/O=Grid/OU=operators/CN=olga", "/O=Grid/OU=services/CN=stager"

RULES: list[dict[str, Any]] = [
    {"dn": ALICE, "roles": ["submitter"], "destinations": ["*.example.org"], "quota": 2},
    {"dn": BOB, "roles": ["submitter"], "destinations": ["*"], "allow_limited": True},
    {"dn": "/O=Grid/OU=operators/*", "roles": ["operator"]},
    {"dn": STAGER, "roles": ["stager"]},
]


def caller(dn: str, *, limited: bool = False, fqans: tuple[str, ...] = ()) -> Identity:
    return Identity(
        dn=dn,
        subject=f"{dn}/CN=1" if limited else dn,
        is_proxy=limited,
        limited=limited,
        not_after=datetime(2100, 1, 1, tzinfo=UTC),
        lapses=datetime(2100, 1, 1, tzinfo=UTC),
        ca_dn="/O=Grid/CN=root CA",
        thumbprint="",
        attributes=Attributes(fqans=fqans),
    )


def policy(rules: list[dict[str, Any]]) -> Policy:
    return Policy.parse(yaml.safe_dump({"rules": rules}))


def allowed(dn: str, action: str, *, limited: bool = False, **context: Any) -> bool:
    return policy(RULES).decide(caller(dn, limited=limited), action, **context).allowed


def test_submitters_submit_where_they_may() -> None:
    assert allowed(ALICE, "submit", destination_host="dtn.example.org")
    assert allowed(ALICE, "submit", destination_host="DTN.example.org")
    assert not allowed(ALICE, "submit", destination_host="example.com")
    assert not allowed(ALICE, "submit")
    assert allowed(BOB, "submit", destination_host="example.com")
    assert not allowed(OPERATOR, "submit", destination_host="dtn.example.org")
    assert not allowed(STAGER, "submit", destination_host="dtn.example.org")


def test_quotas_are_enforced_or_returned() -> None:
    rules = policy(RULES)
    host = {"destination_host": "dtn.example.org"}
    assert rules.decide(caller(ALICE), "submit", unfinished=1, **host).allowed
    refused = rules.decide(caller(ALICE), "submit", unfinished=2, **host)
    assert not refused.allowed
    assert "2 unfinished" in refused.reason
    assert rules.decide(caller(ALICE), "submit", **host).quota == 2
    assert rules.decide(caller(BOB), "submit", **host).quota is None


@pytest.mark.parametrize("action", ["status", "events", "list", "cancel"])
def test_owners_see_their_own_and_operators_all(action: str) -> None:
    assert allowed(ALICE, action, owner=ALICE)
    assert not allowed(ALICE, action, owner=BOB)
    assert not allowed(ALICE, action)
    assert allowed(OPERATOR, action, owner=ALICE)
    assert allowed(OPERATOR, action)
    assert not allowed(STAGER, action, owner=ALICE)
    assert not allowed(STAGER, action, owner=STAGER)


def test_only_the_stager_reports() -> None:
    assert allowed(STAGER, "stage_report")
    assert not any(allowed(dn, "stage_report") for dn in (ALICE, OPERATOR, "/CN=stranger"))


def test_a_limited_proxy_may_only_read() -> None:
    host = {"destination_host": "dtn.example.org"}
    assert allowed(ALICE, "status", owner=ALICE, limited=True)
    assert not allowed(ALICE, "submit", limited=True, **host)
    assert not allowed(ALICE, "cancel", owner=ALICE, limited=True)
    assert not allowed(STAGER, "stage_report", limited=True)
    assert allowed(BOB, "submit", limited=True, **host)


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.WHOAMI])
def test_a_stranger_may_do_nothing(action: str) -> None:
    context = {"owner": "/CN=stranger", "destination_host": "dtn.example.org"}
    decision = policy(RULES).decide(caller("/CN=stranger"), action, **context)
    assert not decision.allowed
    assert decision.rule is None
    assert "no rule lets /CN=stranger" in decision.reason


def test_everybody_may_ask_who_they_are() -> None:
    assert allowed("/CN=stranger", "whoami")


def test_an_action_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="destroy"):
        allowed(OPERATOR, "destroy")


def test_all_rules_of_a_caller_count() -> None:
    rules = policy([*RULES, {"dn": "/O=Grid/**", "roles": ["operator", "stager"]}])
    assert rules.roles(caller(ALICE)) == {Role.SUBMITTER, Role.OPERATOR, Role.STAGER}
    assert rules.roles(caller("/CN=stranger")) == frozenset()
    assert rules.decide(caller(ALICE), "list").rule == "rules[4] /O=Grid/**"


def test_the_rule_that_objects_is_the_one_about_the_action() -> None:
    rules = policy([*RULES, {"dn": "/O=Grid/**", "roles": ["operator"]}])
    decision = rules.decide(caller(ALICE), "submit", destination_host="example.com")
    assert decision.rule == f"rules[0] {ALICE}"
    assert decision.reason == f"{ALICE} may not deliver to example.com"


def test_explanations_name_every_rule_for_the_dn() -> None:
    rules = policy([*RULES, {"dn": "/O=Grid/**", "roles": ["operator"]}])
    explained = rules.explain(ALICE, "submit", destination_host="dtn.example.org")
    assert explained.decision.allowed
    assert explained.considered == (
        (f"rules[0] {ALICE}", "allows it"),
        ("rules[4] /O=Grid/**", f"its roles do not let {ALICE} submit transfers"),
    )
    assert rules.explain("/CN=stranger", "list").considered == ()


# --- who is denied


def denying(
    *deny: dict[str, Any], rules: list[dict[str, Any]] = RULES, first: bool = True
) -> Policy:
    parts: dict[str, Any] = {"deny": list(deny), "rules": rules}
    ordered = parts if first else dict(reversed(parts.items()))
    return Policy.parse(yaml.safe_dump(ordered, sort_keys=False))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("action", [*Action])
def test_a_deny_rule_counts_before_all_others(action: str, first: bool) -> None:
    """Wherever it is in the file, and for what everybody else may do, too."""
    everything = {"dn": "/O=Grid/**", "roles": ["submitter", "operator", "stager"]}
    rules = [{**everything, "destinations": ["*"]}]
    context = {"owner": ALICE, "destination_host": "dtn.example.org"}
    denied = denying({"dn": ALICE}, rules=rules, first=first)
    decision = denied.decide(caller(ALICE), action, **context)
    assert (decision.allowed, decision.rule) == (False, f"deny[0] {ALICE}")
    assert decision.reason == f"the policy denies {ALICE} all use of deliv"
    assert denied.roles(caller(ALICE)) == frozenset()
    assert denied.decide(caller(BOB), action, **{**context, "owner": BOB}).allowed


@pytest.mark.parametrize(
    "deny",
    [{"dn": "/O=Grid/OU=users/*"}, {"dn": "/O=Grid/**"}, {"dn": "/O=Grid/OU=users/CN=ali?e"}],
)
def test_a_pattern_denies(deny: dict[str, Any]) -> None:
    denied = denying({"dn": "/CN=else"}, deny)
    assert denied.decide(caller(ALICE), "list", owner=ALICE).rule == f"deny[1] {deny['dn']}"
    assert denied.denial("/O=Grid", ()) is None
    assert denied.denial(f"{ALICE}/CN=1", ("/skao",)) is None or deny["dn"].endswith("/**")


def test_an_attribute_denies() -> None:
    host = {"destination_host": "dtn.example.org"}
    member, other = caller(BOB, fqans=("/skao/x",)), caller(BOB, fqans=("/skao/y",))
    by_attribute = denying({"fqan": "/skao/x"})
    assert by_attribute.decide(member, "submit", **host).rule == "deny[0] /skao/x"
    assert by_attribute.decide(other, "submit", **host).allowed
    both = denying({"fqan": "/skao/x", "dn": ALICE})
    assert both.decide(member, "submit", **host).allowed
    assert not both.decide(caller(ALICE, fqans=("/skao/x",)), "submit", **host).allowed


def test_a_job_of_somebody_denied_is_decided_on_again() -> None:
    as_it_was = {"fqans": (), "limited": False, "destination_host": "dtn.example.org"}
    assert policy(RULES).reconsider(BOB, **as_it_was).allowed
    assert denying({"dn": BOB}).reconsider(BOB, **as_it_was).rule == f"deny[0] {BOB}"


# --- the file


def test_the_example_is_a_policy() -> None:
    rules = Policy.load(EXAMPLE)
    alice = caller("/DC=org/DC=example/OU=people/CN=Alice")
    assert rules.decide(alice, "submit", destination_host="192.0.2.9").allowed
    robot = caller(r"/DC=org/DC=example/OU=robots/CN=Robot\/deliver - 7")
    assert rules.decide(robot, "submit", destination_host="dtn.example.org").allowed
    assert rules.roles(caller("/DC=org/DC=example/OU=operations/CN=Olga")) == {Role.OPERATOR}


@pytest.mark.parametrize("copy_as", [None, *CopyAs])
def test_under_whose_identity(copy_as: CopyAs | None) -> None:
    """The rule that allows a submission says so; without it either is allowed."""
    rule: dict[str, Any] = {"dn": ALICE, "roles": ["submitter"], "destinations": ["*"]}
    written = [rule | {"copy_as": copy_as.value} if copy_as else rule]
    host = {"destination_host": "dtn.example.org"}
    decision = policy(written).decide(caller(ALICE), "submit", **host)
    assert decision.copy_as is (copy_as or CopyAs.EITHER)


def test_who_may_delegate() -> None:
    """Whoever may submit; a limited proxy only by a rule with allow_limited."""
    assert allowed(ALICE, "delegate")
    assert not allowed(ALICE, "delegate", limited=True)
    assert allowed(BOB, "delegate", limited=True)
    assert not allowed(STAGER, "delegate")
    assert not allowed("/O=Grid/OU=operators/CN=one", "delegate")


def test_a_rule_for_an_attribute() -> None:
    rule = {"fqan": "/skao/*/Role=production", "roles": ["submitter"], "destinations": ["*"]}
    host, own = {"destination_host": "dtn.example.org"}, {"owner": ALICE}
    producer = caller(ALICE, fqans=("/skao", "/skao/meerkat/Role=production"))
    by_rule = policy([rule])
    decision = by_rule.decide(producer, "submit", **host)
    assert (decision.allowed, decision.rule) == (True, "rules[0] /skao/*/Role=production")
    assert by_rule.decide(producer, "status", **own).allowed
    assert by_rule.roles(producer) == {Role.SUBMITTER}
    for fqans in ((), ("/skao",), ("/skao/meerkat",), ("/skao/Role=production",)):
        assert not by_rule.decide(caller(ALICE, fqans=fqans), "submit", **host).allowed
        assert not by_rule.decide(caller(ALICE, fqans=fqans), "status", **own).allowed
    limited = caller(ALICE, limited=True, fqans=producer.attributes.fqans)
    assert not by_rule.decide(limited, "submit", **host).allowed
    assert by_rule.decide(limited, "status", **own).allowed


def test_a_rule_for_a_name_and_an_attribute_asks_for_both() -> None:
    both = policy([{"dn": "/O=Grid/**", "fqan": "/skao", "roles": ["operator"]}])
    assert both.decide(caller(ALICE, fqans=("/skao",)), "list").allowed
    assert both.decide(caller(ALICE, fqans=("/skao",)), "list").rule == (
        "rules[0] /O=Grid/** with /skao"
    )
    assert not both.decide(caller(ALICE), "list").allowed
    assert not both.decide(caller("/O=Else/CN=a", fqans=("/skao",)), "list").allowed


def test_a_name_is_no_attribute() -> None:
    named = policy([{"dn": "/skao=1", "roles": ["operator"]}])
    assert not named.decide(caller(ALICE, fqans=("/skao=1",)), "list").allowed


def test_the_example_shows_every_key() -> None:
    example = yaml.safe_load(EXAMPLE.read_text())
    assert set(example) == {"deny", "rules"}
    assert {key for rule in example["deny"] for key in rule} == {"dn", "fqan"}
    written = {key for rule in example["rules"] for key in rule}
    others = {"roles", "destinations", "quota", "allow_limited", "copy_as"}
    assert written == {"dn", "fqan", *others}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expected `object`"),
        ("rules: {}", "rules"),
        ("roles: []", "roles"),
        ("rules: []\nextra: 1", "extra"),
        ("rules: [{dn: /CN=a, roles: [admin]}]", r"\$\.rules\[0\]\.roles\[0\]"),
        ("rules: [{dn: /CN=a, roles: []}]", r"roles"),
        ("rules: [{dn: /CN=a}]", "roles"),
        ("rules: [{roles: [operator]}]", "for a dn, for a fqan, or for both"),
        ("rules: [{fqan: /*, roles: [operator]}]", "expected an FQAN"),
        ("rules: [{fqan: skao, dn: /CN=a, roles: [operator]}]", "expected an FQAN"),
        ("rules: [{roles: [operator]}]", "dn"),
        ("rules: [{dn: a, roles: [operator]}]", r"expected a DN.*\$\.rules\[0\]"),
        ("rules: [{dn: /CN=a, roles: [operator], role: x}]", "role"),
        ("rules: [{dn: /CN=a, roles: [submitter]}]", "needs destinations"),
        ("rules: [{dn: /CN=a, roles: [operator], destinations: ['*']}]", "for submitters"),
        ("rules: [{dn: /CN=a, roles: [operator], quota: 3}]", "for submitters"),
        (
            "rules: [{dn: /CN=a, roles: [submitter], destinations: ['192.168.*']}]",
            "expected a host",
        ),
        ("rules: [{dn: /CN=a, roles: [submitter], destinations: ['*'], quota: 0}]", "quota"),
        ("rules: [{dn: /CN=a, roles: [submitter], destinations: ['*'], quota: '3'}]", "quota"),
        ("rules: [{dn: /CN=a, roles: [operator], allow_limited: 1}]", "allow_limited"),
        ("rules: [{dn: /CN=a, dn: /CN=b, roles: [operator]}]", "given twice"),
        ("rules: []\nrules: []", "given twice"),
        ("rules: []\ndeny: [{}]", r"for a dn, for a fqan, or for both.*\$\.deny\[0\]"),
        ("rules: []\ndeny: [{dn: a}]", r"expected a DN.*\$\.deny\[0\]"),
        ("rules: []\ndeny: [{fqan: skao}]", "expected an FQAN"),
        ("rules: []\ndeny: [{dn: /CN=a, roles: [operator]}]", "roles"),
        ("deny: [{dn: /CN=a}]", "rules"),
        ("rules: [", "not YAML"),
        ("rules: !!python/object/apply:os.system [id]", "not YAML"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"(?s){file}: .*{problem}"):
        Policy.load(file)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Policy.load(tmp_path / "policy.yaml")
    (tmp_path / "policy.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"policy\.yaml"):
        Policy.load(tmp_path / "policy.yaml")


bricks = st.sampled_from(
    ["rules:", "- ", "dn: ", "/O=Grid/CN=*", "roles: ", "[submitter]", "\n", "  ",
     "destinations: ", "['*']", "quota: 1", "&a", "*a", "!!int ", "{", "}"]
)  # fmt: skip


@given(st.lists(bricks | st.text(max_size=3), max_size=20).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Policy.parse(text)
    except ValueError as error:
        assert str(error)


# --- the live policy


@pytest.fixture
def replace(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "new").write_text(text)
        return (tmp_path / "new").rename(tmp_path / "policy.yaml")

    return write


GOOD, BETTER = (
    f"rules: [{{dn: {ALICE}, roles: [{roles}]}}]" for roles in ("operator", "operator, stager")
)


def test_a_changed_file_counts_and_a_broken_one_does_not(replace: Callable[[str], Path]) -> None:
    reports: list[str | None] = []
    live = LivePolicy(replace(GOOD), on_reload=reports.append)
    assert not live.refresh()
    replace(BETTER)
    assert live.refresh()
    assert live.roles(caller(ALICE)) == {Role.OPERATOR, Role.STAGER}
    file = replace("rules: [")
    assert not live.refresh()
    assert not live.refresh()
    assert live.decide(caller(ALICE), "stage_report").allowed
    assert live.broken is not None
    assert "not YAML" in live.broken
    file.unlink()
    assert not live.refresh()
    assert live.decide(caller(ALICE), "stage_report").allowed
    replace(GOOD)
    assert live.refresh()
    assert live.broken is None
    assert not live.decide(caller(ALICE), "stage_report").allowed
    assert [one if one is None else one.partition(": ")[2][:8] for one in reports] == [
        None, "not YAML", "No such ", None,
    ]  # fmt: skip


def test_a_changed_file_counts_with_the_next_decision(replace: Callable[[str], Path]) -> None:
    live = LivePolicy(replace(GOOD))
    assert not live.decide(caller(ALICE), "stage_report").allowed
    replace(BETTER)
    assert live.decide(caller(ALICE), "stage_report").allowed
    replace(GOOD)
    assert live.roles(caller(ALICE)) == {Role.OPERATOR}


def test_rules_are_as_old_as_the_file_that_they_are_of(replace: Callable[[str], Path]) -> None:
    file = replace(GOOD)
    live, first = LivePolicy(file), file.stat().st_ctime
    assert live.changed.timestamp() == pytest.approx(first, abs=1e-3)
    file = replace("rules: [")
    live.refresh()
    assert live.changed.timestamp() == pytest.approx(first, abs=1e-3)
    file = replace(BETTER)
    live.refresh()
    assert live.changed.timestamp() == pytest.approx(file.stat().st_ctime, abs=1e-3)


def test_a_broken_file_at_the_start_is_an_error(replace: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="not YAML"):
        LivePolicy(replace("rules: ["))

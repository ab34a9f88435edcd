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
from deliv.identity import hosts
from deliv.identity.policy import Action, CopyAs, LivePolicy, Policy, Role, compiled
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


def test_quotas_are_held_or_told() -> None:
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


def test_a_limited_proxy_only_looks() -> None:
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


# --- patterns of DNs


@pytest.mark.parametrize(
    ("pattern", "dn"),
    [
        ("/O=Grid/CN=alice", "/O=Grid/CN=alice"),
        ("/O=Grid/CN=*", "/O=Grid/CN=alice"),
        ("/O=Grid/CN=*", "/O=Grid/CN="),
        ("/O=Grid/CN=*", r"/O=Grid/CN=a\/CN=b\+c"),
        ("/O=Grid/CN=a*e", "/O=Grid/CN=alice"),
        ("/O=*/CN=alice", "/O=Grid/CN=alice"),
        ("/O=Grid/CN=alic?", "/O=Grid/CN=alice"),
        ("/O=Grid/*", "/O=Grid/CN=alice"),
        ("/O=Grid/**", "/O=Grid/CN=alice"),
        ("/O=Grid/**", "/O=Grid/OU=x/CN=alice+OU=y"),
        ("/**", "/O=Grid/CN=alice"),
        (r"/O=Grid/CN=a\/b", r"/O=Grid/CN=a\/b"),
        (r"/O=Grid/CN=Zo\xC3\xAB", r"/O=Grid/CN=Zo\xC3\xAB"),
        ("/CN=*.example.org", "/CN=dtn.example.org"),
        ("/CN=*.example.org", "/CN=*.example.org"),
        ("/CN=[ab]", "/CN=[ab]"),
    ],
)
def test_fits(pattern: str, dn: str) -> None:
    assert compiled(pattern)(dn)


@pytest.mark.parametrize(
    ("pattern", "dn"),
    [
        ("/O=Grid/CN=alice", "/O=Grid/CN=Alice"),
        ("/O=Grid/CN=alice", "/O=Grid/CN=alice/CN=bob"),
        ("/O=Grid/CN=*", "/O=Grid/CN=alice/CN=bob"),
        ("/O=Grid/CN=*", "/O=Grid/CN=alice+OU=admins"),
        ("/O=Grid/*", "/O=Grid/OU=users/CN=alice"),
        ("/O=*/CN=alice", "/O=Grid/OU=evil/CN=alice"),
        ("/O=*/CN=alice", r"/O=Grid\/CN=alice"),
        ("/O=Grid/CN=*/CN=alice", r"/O=Grid/CN=eve\/CN=alice"),
        ("/O=Grid/CN=a?b", r"/O=Grid/CN=a/b"),
        ("/O=Grid/**", "/O=Grid"),
        ("/O=Grid/**", "/O=Griddle/CN=alice"),
        ("/O=Grid/**", r"/O=Grid\/CN=alice"),
        ("/CN=[ab]", "/CN=a"),
        ("/CN=a.c", "/CN=abc"),
    ],
)
def test_does_not_fit(pattern: str, dn: str) -> None:
    assert not compiled(pattern)(dn)


@pytest.mark.parametrize(
    "pattern", ["", "*", "**", "alice", "O=Grid/CN=alice", "/", "/alice", "/O=a**b", "/**/CN=a",
                r"/O=a\/**", "/O=Grïd", "/O=a\n", "/=x"],
)  # fmt: skip
def test_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"DN|\*\*"):
        compiled(pattern)


pieces = st.lists(st.sampled_from(["a", "b", "*", "?", r"\/", r"\+", "/CN=", "+OU="]), max_size=8)


def plain(pattern: list[str], units: list[str]) -> bool:
    """Matching by its definition, unit by unit."""
    if not pattern:
        return not units
    inside = bool(units) and not units[0].startswith(("/", "+"))
    if pattern[0] == "*":
        return plain(pattern[1:], units) or (inside and plain(pattern, units[1:]))
    if pattern[0] == "?":
        return inside and plain(pattern[1:], units[1:])
    return bool(units) and pattern[0] == units[0] and plain(pattern[1:], units[1:])


@given(pieces, pieces)
def test_patterns_match_by_their_definition(pattern: list[str], dn: list[str]) -> None:
    units = [piece for piece in dn if piece not in "*?"]
    text = "/O=" + "".join(pattern)
    if "**" not in text:
        whole = "/O=" + "".join(units)
        assert compiled(text)(whole) == (plain(pattern, units) or text == whole)


def test_many_stars_cost_little() -> None:
    assert not compiled("/CN=" + "*a" * 60 + "b")("/CN=" + "a" * 1000)


# --- patterns of hosts


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("*", "anything.example.org"),
        ("dtn.example.org", "DTN.Example.org"),
        ("DTN.example.org", "dtn.example.org."),
        ("*.example.org", "dtn.example.org"),
        ("dtn*.example.org", "dtn12.example.org"),
        ("*.*.example.org", "a.b.example.org"),
        ("localhost", "localhost"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.0/24", "192.0.2.7"),
        ("2001:db8::/32", "2001:db8::1"),
        ("2001:db8::/32", "[2001:db8::1]"),
        ("[::1]", "::1"),
    ],
)
def test_host_fits(pattern: str, host: str) -> None:
    assert hosts.compiled(pattern)(host)


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("*", ""),
        ("dtn.example.org", "dtn.example.org.evil.com"),
        ("*.example.org", "example.org"),
        ("*.example.org", "a.b.example.org"),
        ("*.example.org", "evilexample.org"),
        ("*.example.org", "evil.com/.example.org"),
        ("192.0.2.0/24", "192.0.3.7"),
        ("192.0.2.0/24", "192.0.2.evil.com"),
        ("192.0.2.0/24", "2001:db8::1"),
    ],
)
def test_host_does_not_fit(pattern: str, host: str) -> None:
    assert not hosts.compiled(pattern)(host)


@pytest.mark.parametrize(
    "pattern",
    ["", "192.168.*", "*.*", "example.*", "exa mple.org", "gsiftp://example.org",
     "example.org:2811", "192.0.2.7/24", "-a.org", "a..b", ".org", "example.org/"],
)  # fmt: skip
def test_is_no_host_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="expected a host"):
        hosts.compiled(pattern)


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
    """The rule that allows a submission says so; without its word it is either's."""
    rule: dict[str, Any] = {"dn": ALICE, "roles": ["submitter"], "destinations": ["*"]}
    written = [rule | {"copy_as": copy_as.value} if copy_as else rule]
    host = {"destination_host": "dtn.example.org"}
    decision = policy(written).decide(caller(ALICE), "submit", **host)
    assert decision.copy_as is (copy_as or CopyAs.EITHER)


def test_who_may_delegate() -> None:
    """Whoever may submit; a limited proxy only by a rule that lets it act."""
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
    written = {key for rule in yaml.safe_load(EXAMPLE.read_text())["rules"] for key in rule}
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
    told: list[str | None] = []
    live = LivePolicy(replace(GOOD), on_reload=told.append)
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
    assert [one if one is None else one.partition(": ")[2][:8] for one in told] == [
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

"""`deliv policy explain`, as an operator runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deliv import cli

EXAMPLE = Path(__file__).parents[2] / "config" / "policy.example.yaml"
PEOPLE = "/DC=org/DC=example/OU=people"
ALICE, EVE = f"{PEOPLE}/CN=Alice", "/O=Elsewhere/CN=Eve"
OPERATOR = "/DC=org/DC=example/OU=operations/CN=Olga"
HOST = ("--destination", "dtn.example.org")


def explain(*arguments: str, policy: Path = EXAMPLE) -> int:
    return cli.main(["policy", "explain", "--policy", str(policy), *arguments])


def test_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(ALICE, "submit", *HOST) == 0
    assert capsys.readouterr().out.splitlines() == [
        "allowed",
        f"decided by: rules[0] {ALICE}",
        "quota: 500 unfinished jobs",
        "copied as: either",
        "rules for this caller:",
        f"  rules[0] {ALICE}: allows it",
        f"  rules[1] {PEOPLE}/CN=*: allows it",
    ]


def test_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(EVE, "submit", *HOST) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"refused: no rule lets {EVE} submit transfers\ndecided by: no rule\n")
    assert said.endswith("rules for this caller:\n  none\n")


def test_a_rule_that_objects(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(f"{PEOPLE}/CN=Bob", "submit", "--destination", "elsewhere.test") == 1
    said = capsys.readouterr().out
    assert "may not deliver to elsewhere.test" in said
    assert f"decided by: rules[1] {PEOPLE}/CN=*" in said


def test_a_deny_rule(capsys: pytest.CaptureFixture[str]) -> None:
    mallory = f"{PEOPLE}/CN=Mallory"
    assert explain(mallory, "submit", *HOST) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"refused: the policy denies {mallory} all use of deliv",
        f"decided by: deny[0] {mallory}",
        "rules for this caller:",
        f"  deny[0] {mallory}: denies everything",
        f"  rules[1] {PEOPLE}/CN=*: allows it",
    ]
    assert explain(mallory, "whoami") == 1
    assert explain(EVE, "whoami", "--fqan", "/skao/suspended") == 1
    assert "decided by: deny[1] /skao/suspended" in capsys.readouterr().out


def test_who_one_is_needs_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(f"{PEOPLE}/CN=Bob", "whoami") == 0
    assert capsys.readouterr().out.splitlines() == [
        "allowed",
        "decided by: no rule: everybody may ask who they are",
        "rules for this caller:",
        f"  rules[1] {PEOPLE}/CN=*: allows it",
    ]


def test_an_attribute(capsys: pytest.CaptureFixture[str]) -> None:
    producer = "/skao/meerkat/Role=production"
    given = ("--fqan", "/skao", "--fqan", f"{producer}/Capability=NULL")
    assert explain(EVE, "submit", *HOST, *given) == 0
    assert capsys.readouterr().out.splitlines() == [
        "allowed",
        f"decided by: rules[2] {producer}",
        "copied as: either",
        "rules for this caller:",
        f"  rules[2] {producer}: allows it",
    ]
    assert explain(EVE, "submit", *HOST, "--fqan", "/skao/meerkat") == 1


def test_what_is_no_attribute(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        explain(EVE, "submit", "--fqan", "skao")
    assert stopped.value.code == 2
    assert "not an FQAN: 'skao'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((f"{PEOPLE}/CN=Bob", "submit", *HOST, "--limited"), 1),
        ((ALICE, "submit", *HOST, "--limited"), 0),
        ((ALICE, "submit", *HOST, "--unfinished", "49"), 0),
        ((f"{PEOPLE}/CN=Bob", "submit", *HOST, "--unfinished", "50"), 1),
        ((ALICE, "status"), 0),
        ((ALICE, "cancel", "--owner", EVE), 1),
        ((ALICE, "list", "--owner", "everybody"), 1),
        ((OPERATOR, "list", "--owner", "everybody"), 0),
        ((OPERATOR, "cancel", "--owner", ALICE), 0),
        ((OPERATOR, "submit", *HOST), 1),
        ((ALICE, "stage_report"), 1),
        ((EVE, "whoami"), 0),
    ],
)
def test_exit_codes(arguments: tuple[str, ...], code: int) -> None:
    assert explain(*arguments) == code


@pytest.mark.parametrize("dn", [ALICE, EVE])
def test_a_submission_needs_a_destination(dn: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it even those who may submit would be refused."""
    assert explain(dn, "submit") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "submit needs --destination HOST" in err


def test_no_policy_and_a_broken_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert explain(ALICE, "submit", *HOST, policy=tmp_path / "absent.yaml") == 2
    assert "No such file" in capsys.readouterr().err
    broken = tmp_path / "broken.yaml"
    broken.write_text("rules: [{dn: x}]")
    assert explain(ALICE, "submit", *HOST, policy=broken) == 2
    assert "roles" in capsys.readouterr().err


def test_the_policy_of_the_configuration(tmp_path: Path) -> None:
    example = EXAMPLE.with_name("deliv.example.yaml").read_text("utf-8")
    own = tmp_path / "deliv.yaml"
    own.write_text(example.replace("/etc/deliv/policy.yaml", str(EXAMPLE)))
    assert cli.main(["policy", "explain", "--config", str(own), OPERATOR, "status"]) == 0


@pytest.mark.parametrize("host", ["localhost:2811", "[::1]:2811", "gsiftp://localhost/data"])
def test_a_destination_is_a_host_alone(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        explain(ALICE, "submit", "--destination", host)
    assert f"the host alone, without scheme and port: not '{host}'" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["-1", "many"])
def test_a_count_is_0_or_more(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        explain(ALICE, "submit", *HOST, f"--unfinished={count}")
    assert f"must be a number, 0 or more: not '{count}'" in capsys.readouterr().err


def test_an_unknown_action(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        explain(ALICE, "delete")
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "stage_report" in said
    assert "Action." not in said

"""Both files of an operator: repeated and unknown keys are errors that name the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from deliv import config
from deliv.errors import ConfigError
from deliv.identity.policy import Policy

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"


def problem(text: str, tmp_path: Path) -> str:
    file = tmp_path / "deliv.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"deliv\.yaml: ") as caught:
        config.load(file)
    return str(caught.value)


def changed(old: str, new: str) -> str:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("\ncrl: ", "\ncrl: soft\ncrl: ", "crl"),
        ("  connections: ", "  connections: 1\n  connections: ", "connections"),
    ],
)
def test_a_repeated_key_is_an_error(old: str, new: str, key: str, tmp_path: Path) -> None:
    text = changed(old, new)
    line = text[: text.index(new) + new.rindex(key)].count("\n") + 1
    said = problem(text, tmp_path)
    assert said == f"{tmp_path / 'deliv.yaml'}: line {line}: a key that is given twice: {key}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\ncrl: ", "\ncrll: ", "unknown key 'crll' at $: did you mean crl?"),
        ("  drain: ", "  drian: ", "unknown key 'drian' at $.rest: did you mean drain?"),
        ("      bound: ", "      bond: ", "'bond' at $.stager.callback.token: did you mean bound?"),
        ("  stager: {attempts: 1,", "  stager: {atempts: 1,",
         "'atempts' at $.retries[...]: did you mean attempts?"),
        ("  pool: ", "  zzz: ", "unknown key 'zzz' at $.database: known are "),
        ("  checksum: {", "  cheksum: {",
         "unknown key 'cheksum' at $.retries: did you mean checksum?"),
        ("\ncrl: ", "\ncrl: zzz #", "unknown value 'zzz' at $.crl: known are hard, soft"),
        ("algorithms: [RS256", "algorithms: [RS265",
         "'RS265' at $.stager.callback.token.algorithms[0]: did you mean RS"),
    ],
)  # fmt: skip
def test_an_unknown_key_names_the_likely_one(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert said in problem(changed(old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  first_pause: 1m", "  first_pause: 0s", "first_pause must not be 0, nor longer than"),
        ("  longest_pause: 30m", "  longest_pause: 30s", "first_pause must not be 0, nor longer"),
        ("    bytes: null", "    bytes: 0B", "bytes must not be 0: without it there may be any"),
        ("  bytes_per_pair: 4TiB", "  bytes_per_pair: 0B", "bytes_per_pair must not be 0"),
    ],
)
def test_values_that_make_no_sense(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert said in problem(changed(old, new), tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ruels: []", "unknown key 'ruels' at $: did you mean rules?"),
        (
            "rules: [{dn: /CN=a, role: [operator]}]",
            "unknown key 'role' at $.rules[0]: did you mean roles?",
        ),
        ("'x` - at `$.no': 1", "unknown key 'x' at $.no"),
        ("'x` - at `$.no[0].y': 1", "unknown key 'x' at $.no[0].y"),
        (
            "rules: [{dn: /CN=a, roles: [sumbitter]}]",
            "unknown value 'sumbitter' at $.rules[0].roles[0]: did you mean submitter?",
        ),
        (
            "rules: [{dn: /CN=a, roles: [operator], copy_as: zzz}]",
            "unknown value 'zzz' at $.rules[0].copy_as: known are either, user, service",
        ),
        ("rules: [{dn: /CN=a, roles: ['x'' - at `key` in `$.no']}]", "unknown key 'x' at $.no"),
        ("rules: []\nrules: []", "line 2: a key that is given twice: rules"),
    ],
)
def test_so_it_is_in_the_policy(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"key|value") as caught:
        Policy.parse(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
@pytest.mark.parametrize("section", ["database", "broker"])
def test_a_connection_on_this_machine_needs_no_ca(host: str, section: str, tmp_path: Path) -> None:
    file = tmp_path / "deliv.yaml"
    file.write_text(at_host(section, host, None), encoding="utf-8")
    assert getattr(config.load(file), section).host == host


@pytest.mark.parametrize("host", ["db.example.org", "192.0.2.7", "::2", "localhost.example"])
@pytest.mark.parametrize("section", ["database", "broker"])
def test_a_connection_to_another_machine_needs_one(host: str, section: str, tmp_path: Path) -> None:
    said = problem(at_host(section, host, None), tmp_path)
    assert f"{section}.ca_file: {host} is not this machine" in said
    file = tmp_path / "deliv.yaml"
    file.write_text(at_host(section, host, "/etc/grid-security/ca.pem"), encoding="utf-8")
    assert getattr(config.load(file), section).host == host


def at_host(section: str, host: str, ca_file: str | None) -> str:
    head, found, rest = EXAMPLE.read_text(encoding="utf-8").partition(f"\n{section}:\n")
    assert found
    rest = rest.replace("host: 127.0.0.1", f"host: '{host}'", 1)
    return head + found + rest.replace("ca_file: null", f"ca_file: {ca_file or 'null'}", 1)

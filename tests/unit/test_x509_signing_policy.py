"""Signing policies: what is read, what is refused, what a CA may certify."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.credentials import Grid

from deliv.errors import CredentialRefused
from deliv.identity.x509 import dn
from deliv.identity.x509.signing_policy import SigningPolicies, allows, normal, parse

CA = "/O=Grid/CN=root CA"


def policy(subjects: str) -> str:
    return f"access_id_CA X509 '{CA}'\npos_rights globus CA:sign\ncond_subjects globus {subjects}\n"


def covers(subjects: str, subject: str, authority: str = CA) -> bool:
    return allows(parse(policy(subjects).encode()), authority, subject)


@pytest.mark.parametrize(
    ("subjects", "subject"),
    [
        ("'\"/O=Grid/*\"'", "/O=Grid/CN=alice"),
        ("'\"/O=Grid/*\"'", "/O=Grid/OU=users/CN=alice"),
        ('\'"/O=Other/*" "/O=Grid/*"\'', "/O=Grid/CN=alice"),
        ('\'"/O=Other/*"\t"/O=Grid/*"\'', "/O=Grid/CN=alice"),
        ("'/O=Grid/*'", "/O=Grid/CN=alice"),
        ("'/O=Grid/CN=Alice B'", "/O=Grid/CN=Alice B"),
        ('"/O=Grid/*"', "/O=Grid/CN=alice"),
        ("/O=Grid/*", "/O=Grid/CN=alice"),
        ("'\"/o=GRID/*\"'", "/O=Grid/CN=alice"),
        ("'\"/O=Grid/CN=*/emailAddress=*\"'", "/O=Grid/CN=alice/emailAddress=a@b"),
        ("'\"/O=Grid/Email=*\"'", "/O=Grid/emailAddress=a@b"),
        ("'\"/O=Grid/E=a@b\"'", "/O=Grid/emailAddress=a@b"),
        ("'\"/O=Grid/USERID=*\"'", "/O=Grid/UID=alice"),
        ("'\"/O=Grid/CN=alic?\"'", "/O=Grid/CN=alice"),
        (r"'\"/O=Grid/CN=a\\/b\"'".replace('\\"', '"'), r"/O=Grid/CN=a\/b"),
        ("'\"/O=Grid/CN=it\\'s\"'", "/O=Grid/CN=it's"),
    ],
)
def test_covered(subjects: str, subject: str) -> None:
    assert covers(subjects, subject)


@pytest.mark.parametrize(
    ("subjects", "subject"),
    [
        ("'\"/O=Grid/*\"'", "/O=Griddle/CN=alice"),
        ("'\"/O=Grid/*\"'", "/C=ZA/O=Grid/CN=alice"),
        ("'\"/O=Grid*\"'", "/O=Grid"),
        ("'\"/O=Grid/CN=alic?\"'", "/O=Grid/CN=alicia"),
        ("'\"/O=Grid/CN=a.c\"'", "/O=Grid/CN=abc"),
        ("'\"/O=Grid/CN=*\"'", "/O=Grid/cn"),
    ],
)
def test_not_covered(subjects: str, subject: str) -> None:
    assert not covers(subjects, subject)


def test_a_policy_is_for_its_own_ca() -> None:
    assert not covers("'\"/O=Grid/*\"'", "/O=Grid/CN=alice", "/O=Grid/CN=another CA")


def test_one_file_for_several_cas_and_several_conditions() -> None:
    text = """
    # a comment, with 'a quote
    access_id_CA      X509         '/O=A/CN=CA'
    access_id_CA      X509         '/O=B/CN=CA'   # another name of it
    pos_rights        globus        CA:sign
    cond_subjects     globus     '"/O=A/*"'
    cond_subjects     globus     '"/O=B/*"'

    access_id_CA      X509         '/O=C/CN=CA'
    pos_rights        globus        CA:sign
    cond_subjects     globus     '"/O=C/*"'
    """
    entries = parse(text.encode())
    assert sorted(entries) == ["/o=a/cn=ca", "/o=b/cn=ca", "/o=c/cn=ca"]
    assert allows(entries, "/O=A/CN=CA", "/O=B/CN=x")
    assert not allows(entries, "/O=A/CN=CA", "/O=C/CN=x")
    assert allows(entries, "/O=C/CN=CA", "/O=C/CN=x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no access_id_CA"),
        ("# nothing\n", "no access_id_CA"),
        ("access_id_CA X509", "middle of a statement"),
        (f"access_id_CA X509 '{CA}'", "expected pos_rights globus, found the end"),
        (f"access_id_CA X509 '{CA}' pos_rights globus CA:sign", "expected cond_subjects"),
        (policy("'\"/O=Grid/*\"'").replace("pos_", "neg_"), "expected pos_rights"),
        (policy("'\"/O=Grid/*\"'").replace("CA:sign", "CA:revoke"), "CA:sign"),
        (policy("'\"/O=Grid/*\"'").replace("cond_subjects", "cond_time"), "cond_subjects"),
        (policy("'\"/O=Grid/*\"'").replace("_CA X509", "_USER X509"), "access_id_CA"),
        (policy("'\"/O=Grid/*\"'").replace("X509", "KERBEROS"), "access_id_CA X509"),
        (policy("'\"/O=Grid/*'"), "double quotes"),
        (policy("'\"/O=Grid/*\" x'"), "double quotes"),
        (policy('\'"/O=Grid/*""/O=B/*"\''), "double quotes"),
        (policy("'\"\"'"), "double quotes"),
        (policy('\'"/O=Grid/*"'), "line 3: a quote is not closed"),
        (policy("'\"/O=Grid/*\"'x"), "a quote is not closed"),
        (policy("'\"/O=Grïd/*\"'"), "other characters than ASCII"),
    ],
)
def test_broken(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(text.encode())


def test_a_file_that_is_too_large() -> None:
    with pytest.raises(ValueError, match="larger"):
        parse(b"#" * (2**20 + 1))


words = st.sampled_from(
    ["access_id_CA", "X509", "pos_rights", "globus", "CA:sign", "cond_subjects", "'", '"', "\\",
     "#", "\n", " ", "*", "?", "/O=Grid", "'\"/O=Grid/*\"'", f"'{CA}'"]
)  # fmt: skip


@given(st.lists(words | st.text(max_size=3), max_size=24).map(" ".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        entries = parse(text.encode())
    except ValueError:
        return
    assert entries
    assert all(entries.values())


@given(st.text("ab*", max_size=12), st.text("ab", max_size=12))
def test_stars_match_as_in_the_plain_definition(pattern: str, text: str) -> None:
    def matches(pattern: str, text: str) -> bool:
        if not pattern or not text:
            return pattern == text
        if pattern[0] == "*":
            return any(matches(pattern[1:], text[taken:]) for taken in range(1, len(text) + 1))
        return pattern[0] == text[0] and matches(pattern[1:], text[1:])

    assert covers(f"'\"/O={pattern}\"'", f"/O={text}") == matches(pattern, text)


def test_many_stars_cost_little() -> None:
    assert not covers(f"'\"/O={'*a' * 60}b\"'", f"/O={'a' * 1000}")


def test_normal_leaves_escaped_slashes_alone() -> None:
    assert normal(r"/CN=x\/E=y/E=z") == r"/cn=x\/e=y/emailaddress=z"


def test_files_are_found_by_the_ca_and_read_again_when_changed(tmp_path: Path) -> None:
    grid = Grid.create(tmp_path / "certificates")
    issuer = dn.subject(grid.root.certificate)
    policies, file = SigningPolicies(grid.directory), grid.file(grid.root, "signing_policy")
    policies.check(issuer, "/O=Grid/CN=alice")
    with pytest.raises(CredentialRefused, match="/O=Else/CN=alice is outside"):
        policies.check(issuer, "/O=Else/CN=alice")
    file.write_text(policy("'\"/O=Elsewhere/*\"'"))
    with pytest.raises(CredentialRefused, match="outside"):
        policies.check(issuer, "/O=Grid/CN=alice")
    file.write_text("what is this?")
    with pytest.raises(CredentialRefused, match="broken"):
        policies.check(issuer, "/O=Grid/CN=alice")
    file.unlink()
    with pytest.raises(CredentialRefused, match="no signing policy"):
        policies.check(issuer, "/O=Grid/CN=alice")

"""Patterns of DNs: what they match, what they don't, and against a matcher by their definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.identity.dn_patterns import compiled


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
def test_matches(pattern: str, dn: str) -> None:
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
def test_does_not_match(pattern: str, dn: str) -> None:
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

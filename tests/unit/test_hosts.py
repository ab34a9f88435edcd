"""Patterns of destination hosts."""

from __future__ import annotations

import pytest

from deliv.identity import hosts


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
def test_matches(pattern: str, host: str) -> None:
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
def test_does_not_match(pattern: str, host: str) -> None:
    assert not hosts.compiled(pattern)(host)


@pytest.mark.parametrize(
    "pattern",
    ["", "192.168.*", "*.*", "example.*", "exa mple.org", "gsiftp://example.org",
     "example.org:2811", "192.0.2.7/24", "-a.org", "a..b", ".org", "example.org/"],
)  # fmt: skip
def test_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="expected a host"):
        hosts.compiled(pattern)

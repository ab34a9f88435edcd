"""Where test hosts may take packages from is read from the machine's settings."""

from __future__ import annotations

import pytest

from tools.hosts import registries
from tools.hosts.errors import HostsError


def test_a_suite_has_the_archive_its_updates_and_its_security() -> None:
    mirrors = registries.Mirrors(
        main="http://mirror.test/debian", security="http://s.test/security"
    )
    assert mirrors.sources("trixie") == [
        "deb http://mirror.test/debian trixie main",
        "deb http://mirror.test/debian trixie-updates main",
        "deb http://s.test/security trixie-security main",
    ]


def test_mirrors_are_those_of_the_machines_own_release(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = "other http://other.test/a\nbookworm http://m.test/debian\nbookworm-security http://s.test/x\n"
    monkeypatch.setattr(registries, "_codename", lambda: "bookworm")
    monkeypatch.setattr(registries, "run", lambda *command: targets)
    mirrors = registries.debian_mirrors()
    assert (mirrors.main, mirrors.security) == ("http://m.test/debian", "http://s.test/x")


def test_a_machine_without_security_updates_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "_codename", lambda: "bookworm")
    monkeypatch.setattr(registries, "run", lambda *command: "bookworm http://m.test/debian\n")
    with pytest.raises(HostsError, match="bookworm-security"):
        registries.debian_mirrors()


def test_pips_own_word_is_taken_also_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.test/simple")
    assert registries.python_index() == "https://index.test/simple"


def test_a_port_is_allowed_only_for_its_name() -> None:
    addresses = ["http://a.test/x", "https://b.test/y", "https://c.test:8443/z"]
    assert registries.allowed(addresses) == {"a.test:80", "b.test:443", "c.test:8443"}

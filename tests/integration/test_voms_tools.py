"""deliv beside VOMS's own tools: it accepts what they make, and refuses what their library does.

Where it refuses more, or accepts what they do not, the reason is given here; some of that differs
between versions of the library.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from deliv_testbed import pki
from deliv_testbed.pki import Credential
from support import libvoms, voms_tools
from support.attribute_certificates import Server
from support.credentials import ALICE, Grid, full
from support.voms_kinds import BOTH, KINDS, Kind

from deliv.identity.voms import fqan

STRICTER = {
    # What callers' own certificates must not be either.
    "an AC signed with SHA-1": "the same strength is asked of ACs as of certificates",
    "a server with a key of 1024 bits": "the same strength is asked of ACs as of certificates",
    # Rules of RFC 5755 that the library does not look at.
    "an AC with an ECDSA signature of an RSA key": "the algorithm must be one of the key's",
    "an AC with another key's identifier": "section 4.3.3",
    "a server that may not sign": "section 4.5",
    "a CA as a server": "section 4.5",
    "an AC of version 1": "section 4.2",
    # Bounds, and what an FQAN is made of.
    "an AC with a line end in an FQAN": "GFD.182",
    "an AC with letters beyond ASCII": "GFD.182",
    "an AC with 300 FQANs": "no more than 256",
    "more ACs than anybody has": "no more than 8",
}
LAXER = {
    "an AC for this host": "the library asks for the name of the machine that runs the test",
    "an empty list of ACs above one that isn't": "as VOMS's library for Java has it",
    "one AC of two is expired": "each counts for itself, as VOMS's library for Java has it",
}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Without voms-clients: skip on a laptop, fail in CI."""
    if shutil.which("voms-proxy-fake", path=voms_tools.PATH) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no voms-proxy-fake")
    return Server.create(Grid.create(tmp_path / "certificates"), tmp_path / "vomsdir")


def library(server: Server, directory: Path, credential: Credential) -> tuple[str, ...]:
    pki.write(directory / "proxy.pem", credential.proxy_pem(), mode=0o600)
    return libvoms.read(directory / "proxy.pem", server.grid.directory, server.vomsdir)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_library_accepts_what_deliv_accepts(server: Server, tmp_path: Path, kind: Kind) -> None:
    theirs = library(server, tmp_path, kind.make(server, voms_tools.holder(server)))
    assert kind.name in {*STRICTER, *LAXER} or tuple(map(fqan.normal, theirs)) == kind.fqans


def test_the_exceptions_are_kinds_that_deliv_decides_so() -> None:
    taken = {kind.name: bool(kind.fqans) for kind in KINDS}
    assert [taken[name] for name in STRICTER] == [False] * len(STRICTER)
    assert [taken[name] for name in LAXER] == [True] * len(LAXER)


@pytest.mark.parametrize(
    "options",
    [(), ("-newformat",), ("-ga", "nickname = alice (skao)"), ("-vomslife", "1")],
    ids=" ".join,
)
def test_a_proxy_of_the_official_tool(
    server: Server, tmp_path: Path, options: tuple[str, ...]
) -> None:
    made = voms_tools.faked(tmp_path, server, voms_tools.holder(server), *options)
    for credential in (made, full(made)):
        identity = server.seen(credential)
        assert identity.attributes.refused is None
        assert (identity.dn, identity.attributes.fqans) == (ALICE, BOTH)
        assert identity.attributes.vos == ("skao",)


def test_a_limited_proxy_of_the_official_tool(server: Server, tmp_path: Path) -> None:
    made = voms_tools.faked(tmp_path, server, voms_tools.holder(server), "-limited")
    identity = server.seen(made)
    assert (identity.limited, identity.attributes.fqans) == (True, BOTH)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-pastac", "100:00", "-vomslife", "1"), "expired at"),
        (("-acextension", "1.2.3.4/true:x"), "critical extension 1.2.3.4"),
        (("-fqan", "/atlas"), "not of the VO skao"),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else "",
)
def test_a_proxy_of_the_official_tool_that_does_not_count(
    server: Server, tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    identity = server.seen(voms_tools.faked(tmp_path, server, voms_tools.holder(server), *options))
    assert (identity.dn, identity.attributes.fqans) == (ALICE, ())
    assert reason in str(identity.attributes.refused)

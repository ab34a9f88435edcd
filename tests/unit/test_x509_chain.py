"""Chains, as OpenSSL verified them, and their identities."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deliv_testbed import pki
from deliv_testbed.pki import Credential
from hypothesis import given
from hypothesis import strategies as st
from support import credentials
from support.credential_kinds import ACCEPTED, KINDS, Kind
from support.credentials import ALICE, Grid, alice, full

from deliv.errors import CredentialRefused
from deliv.identity.x509 import proxy
from deliv.identity.x509.anchors import Anchors
from deliv.identity.x509.chain import Identity, identify
from deliv.identity.x509.revocation import Revocations
from deliv.identity.x509.signing_policy import SigningPolicies

REFUSED = [kind for kind in KINDS if kind.reason is not None]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return Grid.create(tmp_path_factory.mktemp("grid") / "certificates")


def seen(grid: Grid, credential: Credential | None, **options: object) -> Identity:
    return identify(
        grid.chain(credential),
        now=options.get("now", datetime.now(UTC)),
        policies=SigningPolicies(grid.directory),
        revocations=Revocations(grid.directory, options.get("crl", "hard")),
        anchors=Anchors(grid.directory),
    )


@pytest.mark.parametrize("kind", ACCEPTED, ids=lambda kind: kind.name)
def test_accepted(grid: Grid, kind: Kind) -> None:
    credential = kind.make(grid)
    identity = seen(grid, credential)
    assert (identity.dn, identity.limited) == (kind.dn, kind.limited)
    proxies = [one for one in (credential.certificate, *credential.chain) if is_proxy(one)]
    assert identity.is_proxy == bool(proxies)


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.name)
def test_refused(grid: Grid, kind: Kind) -> None:
    with pytest.raises(CredentialRefused, match=kind.reason):
        seen(grid, kind.make(grid))


def is_proxy(certificate: object) -> bool:
    return any(e.oid.dotted_string == proxy.PROXY_CERT_INFO for e in certificate.extensions)


def test_an_identity_has_names_and_an_end(grid: Grid) -> None:
    ends = credentials.days_ago(-1)
    identity = seen(grid, full(full(alice(grid), ends=ends)))
    assert identity.dn == ALICE
    assert identity.subject.startswith(f"{ALICE}/CN=")
    assert identity.ca_dn == "/O=Grid/CN=root CA"
    assert identity.not_after == identity.lapses == ends


def test_an_identity_lapses_with_the_first_list_of_its_chain(tmp_path: Path) -> None:
    """Its certificates are good for longer, which is what a delegated proxy is measured by."""
    grid = Grid.create(tmp_path / "certificates")
    below, ends = credentials.user(grid.intermediate), credentials.days_ago(-1)
    for authority in (grid.root, grid.intermediate):
        crl = authority.revocation_list(
            updated=ends - 2 * credentials.DAY, lifetime=2 * credentials.DAY
        )
        grid.install()
        grid.write_crl(authority, crl)
        for mode in ("hard", "soft"):
            identity = seen(grid, below, crl=mode)
            assert identity.lapses == ends < identity.not_after


def test_a_chain_is_judged_at_the_time_given(grid: Grid) -> None:
    credential = full(alice(grid), ends=credentials.days_ago(-1))
    with pytest.raises(CredentialRefused, match="expired"):
        seen(grid, credential, now=datetime.now(UTC) + timedelta(days=2))


def test_soft_allows_a_missing_list_and_no_other(grid: Grid) -> None:
    assert seen(grid, credentials.user(grid.no_crl), crl="soft").dn == ALICE
    for authority in (grid.old_crl, grid.foreign_crl):
        with pytest.raises(CredentialRefused, match="revocation list"):
            seen(grid, credentials.user(authority), crl="soft")
    with pytest.raises(CredentialRefused, match="revoked"):
        seen(grid, grid.revoked, crl="soft")


def test_a_replaced_list_counts_at_once(tmp_path: Path) -> None:
    grid = Grid.create(tmp_path / "certificates")
    mine, revocations = alice(grid), Revocations(grid.directory)
    policies = SigningPolicies(grid.directory)

    def now() -> Identity:
        return identify(
            grid.chain(full(mine)),
            now=datetime.now(UTC),
            policies=policies,
            revocations=revocations,
        )

    assert now().dn == ALICE
    grid.revoke(mine.certificate)
    with pytest.raises(CredentialRefused, match="revoked"):
        now()
    grid.revoke()
    assert now().dn == ALICE


@pytest.mark.parametrize("suffix", ["r0", "signing_policy"])
@pytest.mark.parametrize("crl", ["hard", "soft"])
def test_a_broken_file_refuses_without_naming_it(tmp_path: Path, suffix: str, crl: str) -> None:
    grid = Grid.create(tmp_path / "certificates")
    grid.file(grid.root, suffix).write_text("broken")
    with pytest.raises(
        CredentialRefused, match=r"of (the CA )?/O=Grid/CN=root CA is broken"
    ) as one:
        seen(grid, alice(grid), crl=crl)
    assert str(tmp_path) not in str(one.value)


def test_a_ca_removed_from_the_directory_is_not_trusted(tmp_path: Path) -> None:
    grid = Grid.create(tmp_path / "certificates")
    grid.file(grid.root, "0").write_text("broken")
    with pytest.raises(CredentialRefused, match="root CA is not trusted"):
        seen(grid, alice(grid))
    root = pki.certificate_pem(grid.root.certificate)
    grid.file(grid.root, "1").write_bytes(root)  # where OpenSSL looks no more
    with pytest.raises(CredentialRefused, match="root CA is not trusted"):
        seen(grid, alice(grid))
    grid.file(grid.root, "0").write_bytes(pki.certificate_pem(grid.no_crl.certificate))
    assert seen(grid, alice(grid)).dn == ALICE


def test_no_certificate_is_no_identity(grid: Grid) -> None:
    with pytest.raises(CredentialRefused, match="no certificate"):
        seen(grid, None)


@given(st.binary(max_size=200))
def test_octets_that_are_no_certificate_are_refused(grid: Grid, octets: bytes) -> None:
    with pytest.raises(CredentialRefused, match="malformed"):
        identify([octets], now=datetime.now(UTC), policies=SigningPolicies(grid.directory))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(position=st.integers(0, 900), octet=st.integers(0, 255))
def test_a_damaged_proxy_is_refused_or_read(grid: Grid, position: int, octet: int) -> None:
    leaf, *rest = grid.chain(full(alice(grid)))
    damaged = bytearray(leaf)
    damaged[position % len(leaf)] = octet
    try:
        identity = identify(
            [bytes(damaged), *rest],
            now=datetime.now(UTC),
            policies=SigningPolicies(grid.directory),
        )
    except CredentialRefused:
        return
    assert identity.dn == ALICE


@given(st.binary(max_size=60), st.booleans())
def test_a_proxy_cert_info_is_read_or_refused(octets: bytes, critical: bool) -> None:
    try:
        info = proxy.parse_info(octets, critical=critical)
    except ValueError:
        return
    assert info.path_length is None or info.path_length >= 0

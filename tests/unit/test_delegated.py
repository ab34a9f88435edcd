"""Delegated proxies: signed with the presented certificate, for the requested key."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from deliv_testbed import pki
from deliv_testbed.pki import Credential
from hypothesis import given
from hypothesis import strategies as st
from support.credentials import (
    ALICE,
    Grid,
    alice,
    days_ago,
    deep,
    full,
    info,
    issued_by,
    key,
    limited,
    proxy,
    user,
)

from deliv.errors import DelivError, InvalidRequest
from deliv.identity import delegated
from deliv.identity.x509.anchors import Anchors
from deliv.identity.x509.chain import Identity, identify
from deliv.identity.x509.revocation import Revocations
from deliv.identity.x509.signing_policy import SigningPolicies

OURS = key("ours")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return Grid.create(tmp_path_factory.mktemp("grid") / "certificates")


def pem(credential: Credential) -> bytes:
    return credential.certificate_pem()


def taken(grid: Grid, made: Credential, shown: Credential, dn: str = ALICE) -> datetime:
    """When `made` ends, for a caller who shows another credential."""

    def identified(chain: list[bytes]) -> Identity:
        return identify(
            chain,
            now=datetime.now(UTC),
            policies=SigningPolicies(grid.directory),
            revocations=Revocations(grid.directory, "hard"),
            anchors=Anchors(grid.directory),
        )

    return delegated.check(delegated.read(pem(made)), grid.chain(shown), dn, identified)


def refusal(grid: Grid, made: Credential, shown: Credential) -> str:
    with pytest.raises(DelivError) as caught:
        taken(grid, made, shown)
    assert caught.value.status in {400, 403}
    return str(caught.value)


def test_a_request_is_for_its_key() -> None:
    request, private = delegated.new_request()
    loaded = x509.load_pem_x509_csr(request.encode())
    assert loaded.is_signature_valid
    assert delegated.public_key(private) == delegated.encode_key(loaded.public_key())
    assert private.startswith(b"-----BEGIN RSA PRIVATE KEY-----")


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_a_proxy_of_the_presented_certificate(grid: Grid, levels: int) -> None:
    shown = deep(alice(grid), levels)
    made = full(shown, key=OURS)
    assert taken(grid, made, shown) == min(
        one.not_valid_after_utc for one in (made.certificate, *made.chain)
    )
    read = delegated.read(pem(made))
    assert read.key == delegated.encode_key(OURS.public_key())
    assert read.pem.encode() == pem(made)


def test_below_an_intermediate_with_or_without_it(grid: Grid) -> None:
    shown = user(grid.intermediate)
    made = full(shown, key=OURS)
    short = Credential(certificate=made.certificate, key=OURS, chain=(shown.certificate,))
    for one in (made, short):
        taken(grid, one, shown)


def test_its_end_is_the_earliest_of_the_chain(grid: Grid) -> None:
    shown = alice(grid, ends=days_ago(-2))
    made = full(shown, key=OURS, ends=days_ago(-9))
    assert taken(grid, made, shown) == shown.certificate.not_valid_after_utc


def test_a_limited_one(grid: Grid) -> None:
    shown = alice(grid)
    taken(grid, limited(shown, key=OURS), shown)
    below = limited(shown)
    assert "limited" in refusal(grid, full(below, key=OURS), below)


def other_chain(grid: Grid) -> tuple[Credential, Credential]:
    """Signed with the user's certificate, by somebody who shows a proxy."""
    return full(alice(grid), key=OURS), full(alice(grid))


def lacking(grid: Grid) -> tuple[Credential, Credential]:
    """The chain ends below the user's certificate."""
    shown = full(alice(grid))
    made = full(shown, key=OURS)
    return Credential(certificate=made.certificate, key=OURS, chain=made.chain[:1]), shown


def another_users(grid: Grid) -> tuple[Credential, Credential]:
    bob = user(grid.root, "bob", key=key("bob"))
    return full(bob, key=OURS), alice(grid)


def pasted(grid: Grid) -> tuple[Credential, Credential]:
    """Signed by a stranger, with the shown chain put below it."""
    shown = alice(grid)
    return full(shown, key=OURS, signer=key("stranger")), shown


def reordered(grid: Grid) -> tuple[Credential, Credential]:
    shown = full(alice(grid))
    made = full(shown, key=OURS)
    return Credential(certificate=made.certificate, key=OURS, chain=made.chain[::-1]), shown


WRONG: dict[str, tuple[Any, str]] = {
    "with the certificate above": (other_chain, "not signed with the certificate that you show"),
    "without its chain": (lacking, "lacks its chain"),
    "of another user": (another_users, "not signed with the certificate that you show"),
    "by a stranger": (pasted, "signature"),
    "in another order": (reordered, "not signed with the certificate that you show"),
}


@pytest.mark.parametrize("name", WRONG)
def test_not_the_callers_own(grid: Grid, name: str) -> None:
    make, reason = WRONG[name]
    assert reason in refusal(grid, *make(grid))


FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "not critical": ({"critical": False}, "not critical"),
    "independent": ({"info": info(pki.INDEPENDENT)}, "independent"),
    "expired": ({"starts": days_ago(2), "ends": days_ago(1)}, "expired"),
    "not yet valid": ({"starts": days_ago(-1)}, "not valid before"),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_no_good_proxy(grid: Grid, name: str) -> None:
    changes, reason = FORMS[name]
    shown = alice(grid)
    changes = {"info": info(pki.INHERIT_ALL), **changes}
    assert reason in refusal(grid, proxy(shown, key=OURS, **changes), shown)


def test_an_ordinary_certificate_below_a_users(grid: Grid) -> None:
    shown = alice(grid)
    assert refusal(grid, issued_by(shown), shown)


def test_a_name_beyond_the_issuers(grid: Grid) -> None:
    shown = alice(grid)
    made = full(shown, key=OURS, subject=pki.name(("O", "Grid"), ("CN", "root")))
    assert "subject" in refusal(grid, made, shown)


def test_a_revoked_user(grid: Grid) -> None:
    assert "revoked" in refusal(grid, full(grid.revoked, key=OURS), grid.revoked)


def test_only_rsa(grid: Grid) -> None:
    made = full(alice(grid), key=ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(InvalidRequest, match="malformed"):
        delegated.read(pem(made))


def test_a_chain_that_is_too_long(grid: Grid) -> None:
    made = full(alice(grid), key=OURS)
    with pytest.raises(InvalidRequest, match="at most"):
        delegated.read(pem(made) + pki.certificate_pem(made.certificate) * 30)
    with pytest.raises(InvalidRequest, match="its chain"):
        delegated.read(pki.certificate_pem(made.certificate))


@given(st.binary(max_size=300) | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_any_body_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        delegated.read(body)
    with pytest.raises(InvalidRequest):
        delegated.read(b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----")


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_changed_bit_is_refused(grid: Grid, place: int, bit: int) -> None:
    """Of the proxy itself; what is above it must be as it is shown."""
    encoded = bytearray(made(grid).certificate.public_bytes(Encoding.DER))
    encoded[place % len(encoded)] ^= 1 << bit
    try:
        changed = x509.load_der_x509_certificate(bytes(encoded))
    except ValueError:
        return
    refusal(grid, replace(made(grid), certificate=changed), alice_once(grid))


@cache
def alice_once(grid: Grid) -> Credential:
    return alice(grid)


@cache
def made(grid: Grid) -> Credential:
    return full(alice_once(grid), key=OURS)

"""Callers, and the proxies they delegate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from deliv_testbed import pki
from deliv_testbed.fts import caller, clock
from deliv_testbed.fts.caller import Caller
from deliv_testbed.fts.database import FtsDatabase
from deliv_testbed.fts.delegation import Delegation
from deliv_testbed.fts.errors import RestError
from deliv_testbed.pki import Authority, Credential

AUTHORITY = Authority.create()
USER = AUTHORITY.issue(pki.user_name("alice"))
OTHER = AUTHORITY.issue(pki.user_name("bob"))
ALICE = Caller(user_dn=USER.dn)
DLG_ID = str(ALICE.delegation_id)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[FtsDatabase]:
    database = FtsDatabase(tmp_path / "fts.sqlite")
    yield database
    database.close()


@pytest.fixture
def delegation(database: FtsDatabase) -> Delegation:
    return Delegation(database)


def request(delegation: Delegation) -> x509.CertificateSigningRequest:
    pem = asyncio.run(delegation.request(ALICE, DLG_ID))
    return x509.load_pem_x509_csr(pem.encode())


def proxy(
    key: rsa.RSAPublicKey,
    *,
    issuer: Credential = USER,
    signer: Credential = USER,
    added: x509.Name = pki.name(("CN", "123")),  # noqa: B008 - names don't change
    life: timedelta = timedelta(hours=12),
) -> bytes:
    name = issuer.certificate.subject
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*name.rdns, *added.rdns]))
        .issuer_name(name)
        .public_key(key)
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=2))
        .not_valid_after(datetime.now(UTC) + life)
        .sign(signer.key, hashes.SHA256())
    )
    return pki.certificate_pem(certificate) + issuer.certificate_pem()


def key_of(delegation: Delegation) -> rsa.RSAPublicKey:
    key = request(delegation).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def refusal(delegation: Delegation, body: bytes) -> str:
    with pytest.raises(RestError) as caught:
        delegation.accept(ALICE, DLG_ID, body)
    assert caught.value.code == 400
    return caught.value.message


def test_the_ids_of_the_recorded_user() -> None:
    known = Caller(user_dn="/DC=test/DC=oracle/OU=Users/CN=Alice Transfer").whoami()
    assert known["delegation_id"] == "dc50f980e1a9a3a2"
    assert known["vos_id"] == ["b7b1acd4-4533-5acc-8bfd-bbc7a752034f"]


def test_a_proxy_stands_for_its_user() -> None:
    first = USER.proxy()
    second = first.proxy()
    chain = [second.certificate, *second.chain, AUTHORITY.certificate]
    found = caller.from_chain(chain)
    assert found == Caller(user_dn=USER.dn, proxies=(first.dn, second.dn))
    assert found.delegation_id == ALICE.delegation_id


def test_nobody_without_a_chain() -> None:
    assert caller.from_chain([]).anonymous


def test_the_request_is_signed_and_stays_the_same(delegation: Delegation) -> None:
    first, second = request(delegation), request(delegation)
    assert first.is_signature_valid
    assert first == second


def test_a_good_proxy(delegation: Delegation, database: FtsDatabase) -> None:
    before = time.time()
    delegation.accept(ALICE, DLG_ID, proxy(key_of(delegation)))
    seen = delegation.view(ALICE, DLG_ID)
    assert seen is not None
    ends = clock.epoch(str(seen["termination_time"]))
    assert before - 1 <= ends - 12 * 3600 <= time.time()
    delegation.require(ALICE)
    stored = database.credential(DLG_ID)
    assert stored is not None
    first, second, third = (part.split("-----")[0] for part in stored["proxy"].split("BEGIN ")[1:])
    assert (first, second, third) == ("CERTIFICATE", "RSA PRIVATE KEY", "CERTIFICATE")
    key = serialization.load_pem_private_key(stored["proxy"].encode(), password=None)
    assert key.public_key() == key_of(delegation)


def test_it_ends_with_the_first_of_the_chain(delegation: Delegation) -> None:
    short = AUTHORITY.issue(pki.user_name("alice"), lifetime=timedelta(hours=2))
    delegation.accept(ALICE, DLG_ID, proxy(key_of(delegation), issuer=short, signer=short))
    seen = delegation.view(ALICE, DLG_ID)
    assert seen is not None
    assert clock.epoch(str(seen["termination_time"])) < time.time() + 2 * 3600


def test_proxies_that_are_refused(delegation: Delegation) -> None:
    key = key_of(delegation)
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    assert "Malformed proxy" in refusal(delegation, b"")
    assert "Malformed proxy" in refusal(delegation, USER.certificate_pem())
    assert "does not match the stored" in refusal(delegation, proxy(stranger))
    assert "Failed to verify" in refusal(delegation, proxy(key, signer=OTHER))
    wrong = refusal(delegation, proxy(key, added=pki.name(("O", "x"))))
    assert "Missing trailing Common Name" in wrong
    several = refusal(delegation, proxy(key, added=pki.name(("CN", "1"), ("CN", "2"))))
    assert "do not match" in several


@pytest.mark.parametrize(
    ("life", "words"),
    [
        (timedelta(minutes=59), "less than one hour"),
        (timedelta(seconds=-90), r"expired \d+ seconds ago"),
    ],
)
def test_too_short(delegation: Delegation, life: timedelta, words: str) -> None:
    delegation.accept(ALICE, DLG_ID, proxy(key_of(delegation), life=life))
    with pytest.raises(RestError, match=words) as caught:
        delegation.require(ALICE)
    assert caught.value.status == "419 Authentication Timeout"


def test_only_ones_own(delegation: Delegation) -> None:
    for call in (delegation.view, delegation.delete):
        with pytest.raises(RestError, match="do not match") as caught:
            call(Caller(user_dn=OTHER.dn), DLG_ID)
        assert caught.value.code == 403

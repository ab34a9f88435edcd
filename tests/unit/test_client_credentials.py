"""Which credential and which CAs the client uses, and how long a credential is valid."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deliv_testbed import pki
from hypothesis import given
from hypothesis import strategies as st

from deliv.client import (
    CredentialUnusable,
    SetupError,
)
from deliv.client.certificates import expiry, not_after
from deliv.client.credentials import (
    CallerCredential,
    check_validity,
    find_ca,
    find_credential,
    tls_context,
)


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.Authority.create()


@pytest.fixture(scope="module")
def alice(authority: pki.Authority) -> pki.Credential:
    return authority.issue(pki.user_name("alice"))


def write_proxy(directory: Path, proxy: pki.Credential) -> CallerCredential:
    path = directory / "proxy.pem"
    pki.write_proxy(path, proxy)
    return CallerCredential(cert=path, key=path)


def test_expiry_is_the_first_of_the_chain(alice: pki.Credential) -> None:
    short = alice.proxy(lifetime=timedelta(minutes=90))
    long = short.proxy(lifetime=timedelta(minutes=30))
    for proxy in (short, long):
        expected = proxy.certificate.not_valid_after_utc
        assert expiry(proxy.proxy_pem().decode()) == expected
    assert expiry(alice.certificate_pem().decode()) == alice.certificate.not_valid_after_utc


def test_expiry_reads_both_forms_of_time(authority: pki.Authority) -> None:
    """Up to 2049 a year has two digits, from 2050 on four."""
    for days in (365, 40 * 365):
        issued = authority.issue(pki.user_name("bob"), lifetime=timedelta(days=days))
        end = issued.certificate.not_valid_after_utc
        assert expiry(issued.certificate_pem().decode()) == end


def test_no_certificate_no_expiry() -> None:
    assert expiry("nothing here") is None


@given(st.binary(max_size=100))
def test_what_is_no_certificate_is_a_value_error(der: bytes) -> None:
    with pytest.raises(ValueError):
        not_after(der)


@pytest.mark.parametrize("keep", range(1, 400, 13))
def test_a_cut_certificate_is_a_value_error(alice: pki.Credential, keep: int) -> None:
    der = ssl.PEM_cert_to_DER_cert(alice.certificate_pem().decode())
    with pytest.raises(ValueError, match="truncated"):
        not_after(der[:keep])


def test_options_come_first(tmp_path: Path) -> None:
    environ = {"X509_USER_PROXY": "/p", "X509_USER_CERT": "/c", "X509_USER_KEY": "/k"}
    assert find_credential("/a", None, environ) == pair("/a", "/a")
    assert find_credential("/a", "/b", environ) == pair("/a", "/b")
    assert find_credential(None, None, environ) == pair("/p", "/p")
    del environ["X509_USER_PROXY"]
    assert find_credential(None, None, environ) == pair("/c", "/k")
    for missing in ("X509_USER_CERT", "X509_USER_KEY"):
        half = {name: value for name, value in environ.items() if name != missing}
        with pytest.raises(SetupError, match="both"):
            find_credential(None, None, half)
    with pytest.raises(SetupError, match="--cert"):
        find_credential(None, "/k", environ)


def test_grid_files_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)  # nobody's proxy is in /tmp
    with pytest.raises(SetupError, match="voms-proxy-init"):
        find_credential(None, None, {}, tmp_path)
    globus = tmp_path / ".globus"
    globus.mkdir()
    (globus / "usercert.pem").touch()
    expected = CallerCredential(cert=globus / "usercert.pem", key=globus / "userkey.pem")
    assert find_credential(None, None, {}, tmp_path) == expected


def test_ca_directory() -> None:
    assert find_ca("/here", {"X509_CERT_DIR": "/there"}) == Path("/here")
    assert find_ca(None, {"X509_CERT_DIR": "/there"}) == Path("/there")
    expected = Path("/etc/grid-security/certificates")
    assert find_ca(None, {"SSL_CERT_DIR": "/x", "SSL_CERT_FILE": "/y"}) == expected


def pair(cert: str, key: str) -> CallerCredential:
    return CallerCredential(cert=Path(cert), key=Path(key))


def test_an_expired_proxy_is_named_before_any_call(tmp_path: Path, alice: pki.Credential) -> None:
    expired = write_proxy(tmp_path, alice.proxy(lifetime=timedelta(minutes=-1)))
    with pytest.raises(CredentialUnusable, match=r"expired on .* make a new proxy"):
        check_validity(expired)


def test_unusable_files_are_named(
    tmp_path: Path, authority: pki.Authority, alice: pki.Credential
) -> None:
    authority.install(tmp_path / "ca")
    good = write_proxy(tmp_path, alice.proxy())
    other = tmp_path / "other.key"
    other.write_bytes(authority.issue(pki.user_name("bob")).key_pem())
    keyless = tmp_path / "keyless.pem"
    keyless.write_bytes(alice.certificate_pem())
    for credential, ca, wanted in (
        (CallerCredential(cert=tmp_path / "none", key=good.key), "ca", "none: No such file"),
        (CallerCredential(cert=other, key=other), "ca", "no certificate in PEM"),
        (CallerCredential(cert=good.cert, key=other), "ca", r"other\.key"),
        (
            CallerCredential(cert=keyless, key=keyless),
            "ca",
            r"keyless\.pem has no private key: .*--key",
        ),
        (CallerCredential(cert=good.cert, key=tmp_path / "none"), "ca", "none.*No such file"),
        (good, "nowhere", "--ca or X509_CERT_DIR"),
        (good, "other.key", "no CA certificates"),
    ):
        with pytest.raises((CredentialUnusable, SetupError), match=wanted):
            tls_context(credential, tmp_path / ca)
    assert tls_context(good, tmp_path / "ca").check_hostname


def test_times_are_utc(alice: pki.Credential) -> None:
    end = expiry(alice.certificate_pem().decode())
    assert end is not None
    assert end.tzinfo is UTC
    assert end > datetime.now(UTC)

"""The private PKI, held against the openssl command."""

from __future__ import annotations

import shutil
import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from deliv_testbed import pki

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command")


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.Authority.create()


@pytest.fixture(scope="module")
def alice(authority: pki.Authority) -> pki.Credential:
    return authority.issue(pki.user_name("alice"))


def openssl(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30
    )
    return done.stdout + done.stderr


def verify(tmp_path: Path, authority: pki.Authority, credential: pki.Credential) -> str:
    leaf, chain = tmp_path / "leaf.pem", tmp_path / "chain.pem"
    leaf.write_bytes(pki.certificate_pem(credential.certificate))
    chain.write_bytes(b"".join(map(pki.certificate_pem, credential.chain)))
    untrusted = ("-untrusted", chain) if credential.chain else ()
    flags = ("-allow_proxy_certs", "-crl_check_all")
    return openssl("verify", *flags, "-CApath", tmp_path / "ca", *untrusted, leaf)


@needs_openssl
@pytest.mark.parametrize(
    "subject",
    [
        pki.name(("O", "deliv testbed"), ("CN", "testbed CA")),
        pki.name(("O", "  Many   Blanks "), ("OU", "X"), ("CN", "Ünïcode")),
        pki.name(("C", "ZA"), ("DC", "example"), ("CN", "mixed string types")),
        pki.name(("O", "o" * 60), ("OU", "u" * 60), ("CN", "c" * 60)),
    ],
)
def test_the_hash_is_openssls(tmp_path: Path, subject: pki.x509.Name) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(pki.certificate_pem(pki.Authority.create(subject).certificate))
    assert openssl("x509", "-noout", "-hash", "-in", path).strip() == pki.name_hash(subject)


@needs_openssl
def test_users_hosts_and_proxies_verify(
    tmp_path: Path, authority: pki.Authority, alice: pki.Credential
) -> None:
    authority.install(tmp_path / "ca")
    for credential in (alice, authority.issue_host(), alice.proxy(), alice.proxy().proxy()):
        assert verify(tmp_path, authority, credential).endswith("OK\n")


@needs_openssl
def test_revocation_stops_the_user_and_the_proxy(
    tmp_path: Path, authority: pki.Authority, alice: pki.Credential
) -> None:
    authority.install(tmp_path / "ca", revoked=[alice.certificate])
    for credential in (alice, alice.proxy()):
        assert "certificate revoked" in verify(tmp_path, authority, credential)


@needs_openssl
def test_what_is_wrong_can_be_issued(
    tmp_path: Path, authority: pki.Authority, alice: pki.Credential
) -> None:
    authority.install(tmp_path / "ca")
    expired = authority.issue(
        pki.user_name("eve"),
        starts=alice.certificate.not_valid_before_utc - timedelta(days=2),
        lifetime=timedelta(days=1),
    )
    assert "certificate has expired" in verify(tmp_path, authority, expired)
    renamed = alice.proxy(subject=pki.user_name("bob"))
    assert "proxy subject name violation" in verify(tmp_path, authority, renamed)
    too_deep = alice.proxy(path_length=0).proxy()
    assert "proxy path length" in verify(tmp_path, authority, too_deep)


@needs_openssl
def test_host_names_and_addresses(tmp_path: Path, authority: pki.Authority) -> None:
    path = tmp_path / "host.pem"
    path.write_bytes(authority.issue_host("gridftp.example").certificate_pem())
    text = openssl("x509", "-noout", "-ext", "subjectAltName", "-in", path)
    assert "DNS:gridftp.example, IP Address:127.0.0.1, DNS:localhost" in text


def test_proxies_follow_the_rfc(alice: pki.Credential) -> None:
    proxy = alice.proxy(lifetime=timedelta(days=4000))
    assert proxy.dn.startswith(alice.dn + "/CN=")
    assert proxy.certificate.issuer == alice.certificate.subject
    assert proxy.certificate.not_valid_after_utc == alice.certificate.not_valid_after_utc
    info = proxy.certificate.extensions.get_extension_for_oid(pki.PROXY_CERT_INFO)
    assert info.critical
    assert proxy.certificate.serial_number.bit_length() <= 63


def test_a_limited_proxy_says_so(alice: pki.Credential) -> None:
    limited = alice.proxy(policy=pki.LIMITED, critical=False)
    info = limited.certificate.extensions.get_extension_for_oid(pki.PROXY_CERT_INFO)
    assert not info.critical
    assert isinstance(info.value, pki.x509.UnrecognizedExtension)
    assert info.value.value.endswith(pki.LIMITED)


def test_files_read_back(tmp_path: Path, authority: pki.Authority, alice: pki.Credential) -> None:
    proxy = alice.proxy()
    pki.write_proxy(tmp_path / "proxy", proxy)
    assert stat.S_IMODE((tmp_path / "proxy").stat().st_mode) == 0o600
    loaded = pki.load(tmp_path / "proxy", tmp_path / "proxy")
    assert (loaded.certificate, loaded.chain) == (proxy.certificate, proxy.chain)
    ca = pki.Credential(certificate=authority.certificate, key=authority.key)
    pki.write_credential(tmp_path / "ca.pem", tmp_path / "ca.key", ca)
    again = pki.Authority.load(tmp_path / "ca.pem", tmp_path / "ca.key")
    assert again.issue(pki.user_name("bob")).dn == "/O=deliv testbed/OU=users/CN=bob"


def test_a_refused_key_kind(tmp_path: Path, alice: pki.Credential) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "key").write_bytes(key)
    pki.write(tmp_path / "certificate", alice.certificate_pem())
    with pytest.raises(ValueError, match="neither"):
        pki.load(tmp_path / "certificate", tmp_path / "key")

"""A private grid PKI: CA directory, host and user certificates, RFC 3820 proxies, CRLs.

    authority = Authority.create()
    authority.install(directory)                       # HASH.0, HASH.signing_policy, HASH.r0
    alice = authority.issue(user_name("alice"))
    write_proxy(path, alice.proxy())

Every default gives what Globus, FTS and OpenSSL accept; every keyword argument lets a test make
what some of them must refuse. Keys are RSA: Globus reads no others.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deliv.identity.x509 import dn as grid_names

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
ORGANISATION = "deliv testbed"
ATTRIBUTES = {
    "C": NameOID.COUNTRY_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}
PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
# The policy languages of RFC 3820 section 3.8.2 and of Globus, as DER object identifiers.
INHERIT_ALL = bytes.fromhex("06082b06010505071501")
INDEPENDENT = bytes.fromhex("06082b06010505071502")
LIMITED = bytes.fromhex("060b2b060104019b5001010109")
SKEW = timedelta(hours=2)  # parts of a stack may have a clock that is behind
LOOPBACK = ("127.0.0.1", "localhost")


def name(*attributes: tuple[str, str]) -> x509.Name:
    """A distinguished name, e.g. name(("O", "deliv testbed"), ("CN", "alice"))."""
    return x509.Name([x509.NameAttribute(ATTRIBUTES[label], value) for label, value in attributes])


def authority_name(authority: str) -> x509.Name:
    return name(("O", ORGANISATION), ("CN", authority))


def user_name(user: str) -> x509.Name:
    return name(("O", ORGANISATION), ("OU", "users"), ("CN", user))


def service_name(service: str) -> x509.Name:
    return name(("O", ORGANISATION), ("OU", "services"), ("CN", service))


def host_name(host: str) -> x509.Name:
    return name(("O", ORGANISATION), ("OU", "hosts"), ("CN", host))


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A certificate, its key and, for a proxy, its issuers up to the user's certificate."""

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def dn(self) -> str:
        """The subject in the grid's one-line form; of a proxy, with its proxy CNs."""
        return certificate_dn(self.certificate)

    def proxy(
        self,
        *,
        policy: bytes = INHERIT_ALL,
        path_length: int | None = None,
        lifetime: timedelta = timedelta(hours=12),
        critical: bool = True,
        subject: x509.Name | None = None,
        key: PrivateKey | None = None,
    ) -> Credential:
        """A proxy of this credential (RFC 3820), never longer valid than its issuers."""
        serial, key = _serial(), key or rsa_key()
        if subject is None:
            added = x509.NameAttribute(NameOID.COMMON_NAME, str(serial))
            rdns = [*self.certificate.subject.rdns, x509.RelativeDistinguishedName([added])]
            subject = x509.Name(rdns)
        ends = min(
            datetime.now(UTC) + lifetime,
            *(issuer.not_valid_after_utc for issuer in (self.certificate, *self.chain)),
        )
        builder = _builder(subject, self.certificate.subject, key, datetime.now(UTC) - SKEW, ends)
        info = x509.UnrecognizedExtension(PROXY_CERT_INFO, _proxy_cert_info(policy, path_length))
        builder = builder.serial_number(serial).add_extension(info, critical=critical)
        builder = builder.add_extension(_END_ENTITY_USE, critical=True)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Credential(certificate=certificate, key=key, chain=(self.certificate, *self.chain))

    def certificate_pem(self) -> bytes:
        """The certificate, then its chain."""
        return b"".join(certificate_pem(one) for one in (self.certificate, *self.chain))

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )

    def proxy_pem(self) -> bytes:
        """One file in the order of grid tools: certificate, key, chain."""
        chain = b"".join(certificate_pem(one) for one in self.chain)
        return certificate_pem(self.certificate) + self.key_pem() + chain


@dataclass(frozen=True, kw_only=True)
class Authority:
    certificate: x509.Certificate
    key: PrivateKey

    @classmethod
    def create(
        cls,
        subject: x509.Name | None = None,
        *,
        lifetime: timedelta = timedelta(days=3650),
        key: PrivateKey | None = None,
    ) -> Authority:
        """A new self-signed CA."""
        subject, key = subject or authority_name("CA"), key or rsa_key()
        starts = datetime.now(UTC) - SKEW
        builder = _builder(subject, subject, key, starts, datetime.now(UTC) + lifetime)
        builder = (
            builder.serial_number(_serial())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_CA_USE, critical=True)
            .add_extension(_subject_key(key), critical=False)
        )
        return cls(certificate=builder.sign(key, hashes.SHA256()), key=key)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Authority:
        """The CA of an earlier run, e.g. of testbed.json's `ca_file` and `ca_key`."""
        loaded = load(certificate, key)
        return cls(certificate=loaded.certificate, key=loaded.key)

    def issue(
        self,
        subject: x509.Name,
        *,
        hosts: Iterable[str] = (),
        starts: datetime | None = None,
        lifetime: timedelta = timedelta(days=365),
        key: PrivateKey | None = None,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    ) -> Credential:
        """A certificate; `hosts` (names or addresses) makes it a server's as well.

        `extensions` are added as (extension, critical), for certificates that must be refused.
        """
        key, hosts = key or rsa_key(), tuple(hosts)
        now = datetime.now(UTC)
        ends = (starts or now) + lifetime
        builder = _builder(subject, self.certificate.subject, key, starts or now - SKEW, ends)
        builder = builder.serial_number(_serial())
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        usual: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_END_ENTITY_USE, True),
            (_subject_key(key), False),
            (self._key_identifier(), False),
        ]
        if hosts:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            usual.append((names, False))
        usual.append((x509.ExtendedKeyUsage(uses), False))
        for extension, critical in (*usual, *extensions):
            builder = builder.add_extension(extension, critical=critical)
        return Credential(certificate=builder.sign(self.key, hashes.SHA256()), key=key)

    def issue_host(self, host: str = "localhost") -> Credential:
        """A server's credential that is good for `host` and both loopback names."""
        return self.issue(host_name(host), hosts=dict.fromkeys((host, *LOOPBACK)))

    def revocation_list(
        self,
        revoked: Iterable[x509.Certificate] = (),
        *,
        updated: datetime | None = None,
        lifetime: timedelta = timedelta(days=30),
    ) -> x509.CertificateRevocationList:
        """A CRL with these certificates; its number grows with the time it is made."""
        updated = updated or datetime.now(UTC) - SKEW
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=self.certificate.subject,
            last_update=updated,
            next_update=updated + lifetime,
        )
        number = x509.CRLNumber(int(datetime.now(UTC).timestamp() * 1000))
        builder = builder.add_extension(number, critical=False)
        builder = builder.add_extension(self._key_identifier(), critical=False)
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            entry = entry.revocation_date(datetime.now(UTC) - SKEW)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256())

    def signing_policy(self, *patterns: str) -> str:
        """Globus's rule of which subjects (shell patterns) this CA may certify."""
        subjects = " ".join(f'"{pattern}"' for pattern in patterns or (f"/O={ORGANISATION}/*",))
        return (
            f"access_id_CA   X509    '{grid_names.oneline(self.certificate.subject)}'\n"
            f"pos_rights     globus  CA:sign\n"
            f"cond_subjects  globus  '{subjects}'\n"
        )

    def install(self, directory: Path, revoked: Iterable[x509.Certificate] = ()) -> None:
        """Write the CA's three files into a CA directory, replacing what is there."""
        directory.mkdir(parents=True, exist_ok=True)
        base = name_hash(self.certificate.subject)
        write(directory / f"{base}.0", certificate_pem(self.certificate))
        write(directory / f"{base}.signing_policy", self.signing_policy().encode())
        self.publish_revocations(directory, revoked)

    def publish_revocations(self, directory: Path, revoked: Iterable[x509.Certificate]) -> None:
        """Replace the CA's CRL in a CA directory."""
        crl = self.revocation_list(revoked)
        path = directory / f"{name_hash(self.certificate.subject)}.r0"
        write(path, crl.public_bytes(serialization.Encoding.PEM))

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())


def load(certificate: Path, key: Path) -> Credential:
    """Read a credential back; both may be one proxy file."""
    first, *chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    if not isinstance(private, PrivateKey):
        raise ValueError(f"{key}: neither an RSA nor an elliptic-curve key")
    return Credential(certificate=first, key=private, chain=tuple(chain))


def certificate_dn(certificate: x509.Certificate) -> str:
    """The subject in the grid's one-line form."""
    return grid_names.oneline(grid_names.subject(certificate))


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def name_hash(subject: x509.Name) -> str:
    """OpenSSL's hash of a name, which names the files of a CA directory."""
    return grid_names.name_hash(subject.public_bytes())


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file at once: a reader sees the old content or the new."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.chmod(mode)
    temporary.replace(path)


def write_credential(certificate: Path, key: Path, credential: Credential) -> None:
    """The certificate with its chain, and the key with mode 0600."""
    write(certificate, credential.certificate_pem())
    write(key, credential.key_pem(), mode=0o600)


def write_proxy(path: Path, proxy: Credential) -> None:
    """A proxy file with mode 0600: certificate, key, chain."""
    write(path, proxy.proxy_pem(), mode=0o600)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_encipherment=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


_CA_USE = _key_usage(ca=True)
_END_ENTITY_USE = _key_usage(ca=False)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, starts: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .not_valid_before(starts)
        .not_valid_after(ends)
    )


def _serial() -> int:
    """Positive and of at most 63 bits: older Globus keeps it in a signed long."""
    return secrets.randbelow(2**63 - 1) + 1


def _subject_key(key: PrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _proxy_cert_info(policy: bytes, path_length: int | None) -> bytes:
    """SEQUENCE { INTEGER OPTIONAL, SEQUENCE { policy language } }, RFC 3820 section 3.8."""
    length = b"" if path_length is None else _der(0x02, bytes([path_length]))
    return _der(0x30, length + _der(0x30, policy))


def _der(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)

"""Making credentials with exactly what a test wants in them, and the CAs that issue them.

    grid = Grid.create(directory)              # writes a CA directory
    credential = full(alice(grid))             # a proxy of a user

tests/support/credential_kinds.py has the table of kinds that deliv must accept or refuse.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from deliv_testbed import pki
from deliv_testbed.pki import Authority, Credential

from deliv.identity.x509 import der, dn
from support.libcrypto import describe_certificate

Extensions = Iterable[tuple[x509.ExtensionType, bool]]

DAY = timedelta(days=1)
ALICE = "/O=Grid/OU=users/CN=alice"
DIGESTS = {
    "sha256": (11, hashes.SHA256()),
    "sha1": (5, hashes.SHA1()),  # noqa: S303 - to be refused
    "md5": (4, hashes.MD5()),  # noqa: S303 - to be refused
}
DRAFT_PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.4.1.3536.1.222")
UNKNOWN_LANGUAGE = bytes.fromhex("06032a0304")
UTF8, PRINTABLE, T61, BMP = 12, 19, 20, 30
CN, O, OU = (bytes.fromhex(contents) for contents in ("550403", "55040a", "55040b"))  # noqa: E741


@lru_cache
def key(owner: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The same key for the same owner, since making them is what takes time."""
    return pki.rsa_key(bits)


@lru_cache
def costly_key(owner: str, bits: int = 3072) -> rsa.RSAPrivateKey:
    """A key whose public exponent is as long as its modulus, so that to verify takes long.

    Above 3072 bits OpenSSL itself refuses exponents of more than 64 bits.
    """
    usual = key(owner, bits).private_numbers()
    exponent = usual.public_numbers.e
    public = pow(exponent, -1, (usual.p - 1) * (usual.q - 1))
    return rsa.RSAPrivateNumbers(
        p=usual.p,
        q=usual.q,
        d=exponent,
        dmp1=exponent % (usual.p - 1),
        dmq1=exponent % (usual.q - 1),
        iqmp=usual.iqmp,
        public_numbers=rsa.RSAPublicNumbers(public, usual.public_numbers.n),
    ).private_key()


@lru_cache
def huge_key() -> rsa.RSAPrivateKey:
    """A key of 8,676 bits, of two known primes: to look for new ones takes minutes."""
    p, q, exponent = 2**4423 - 1, 2**4253 - 1, 65537
    d = pow(exponent, -1, (p - 1) * (q - 1))
    return rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=d % (p - 1),
        dmq1=d % (q - 1),
        iqmp=pow(q, -1, p),
        public_numbers=rsa.RSAPublicNumbers(exponent, p * q),
    ).private_key(unsafe_skip_rsa_key_validation=True)


# --- certificates with exactly the given extensions


def certificate(
    subject: x509.Name,
    issuer: x509.Name,
    *,
    public: Any,
    signer: Any,
    starts: datetime | None = None,
    ends: datetime | None = None,
    extensions: Extensions = (),
) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=public.public_key(),
        serial_number=secrets.randbelow(2**62) + 1,
        not_valid_before=_naive(starts or days_ago(1)),
        not_valid_after=_naive(ends or days_ago(-10)),
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, hashes.SHA256())


def rewritten(
    original: x509.Certificate,
    signer: rsa.RSAPrivateKey,
    *,
    subject: bytes | None = None,
    digest: str = "sha256",
) -> x509.Certificate:
    """The certificate signed again with another subject (its DER) or another digest."""
    arc, algorithm = DIGESTS[digest]
    content = der.content(original.tbs_certificate_bytes, der.SEQUENCE)
    fields = [element.encoding for element in der.elements(content)]
    oid = bytes.fromhex("06092a864886f70d0101") + bytes([arc])
    fields[2] = der.encode(der.SEQUENCE, oid + b"\x05\x00")
    fields[5] = subject or fields[5]
    signed = der.encode(der.SEQUENCE, b"".join(fields))
    signature = der.encode(3, b"\0" + signer.sign(signed, padding.PKCS1v15(), algorithm))
    return x509.load_der_x509_certificate(der.encode(der.SEQUENCE, signed + fields[2] + signature))


def raw_name(*rdns: list[tuple[bytes, int, bytes]]) -> bytes:
    """A name's DER from RDNs of (OID contents, string tag, octets of the value)."""
    return der.encode(der.SEQUENCE, b"".join(map(_raw_rdn, rdns)))


def days_ago(days: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - days * DAY


def use(**bits: bool) -> x509.KeyUsage:
    """A key usage with these bits and no others."""
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names})


def _naive(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)


def _raw_rdn(attributes: list[tuple[bytes, int, bytes]]) -> bytes:
    pairs = (
        der.encode(der.SEQUENCE, der.encode(der.OBJECT_IDENTIFIER, oid) + der.encode(tag, value))
        for oid, tag, value in attributes
    )
    return der.encode(der.SET, b"".join(sorted(pairs)))


USE = (use(digital_signature=True, key_encipherment=True), True)
NO_CA = (x509.BasicConstraints(ca=False, path_length=None), True)
IS_CA = (x509.BasicConstraints(ca=True, path_length=None), True)
CA_USE = (use(key_cert_sign=True, crl_sign=True), True)
CLIENT = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
SERVER = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
ALTERNATIVE_NAME = (x509.SubjectAlternativeName([x509.DNSName("host.example.org")]), False)
UNHEARD_OF = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
USUAL = (NO_CA, USE, CLIENT)


# --- the CAs


@dataclass(frozen=True, kw_only=True)
class Grid:
    """CAs in one CA directory; most are named after what is wrong with their files."""

    directory: Path
    root: Authority
    intermediate: Authority
    revoked_intermediate: Authority
    stray_intermediate: Authority
    no_crl: Authority
    old_crl: Authority
    foreign_crl: Authority
    no_policy: Authority
    broken_policy: Authority
    unknown: Authority
    revoked: Credential

    @classmethod
    def create(cls, directory: Path) -> Grid:
        directory.mkdir(parents=True, exist_ok=True)
        root = _root("root CA")
        grid = cls(
            directory=directory,
            root=root,
            intermediate=_intermediate(root, "Grid", "intermediate CA"),
            revoked_intermediate=_intermediate(root, "Grid", "revoked CA"),
            stray_intermediate=_intermediate(root, "Elsewhere", "stray CA"),
            no_crl=_root("CA without CRL"),
            old_crl=_root("CA with an old CRL"),
            foreign_crl=_root("CA with a foreign CRL"),
            no_policy=_root("CA without policy"),
            broken_policy=_root("CA with a broken policy"),
            unknown=_root("unknown CA"),
            revoked=user(root, "revoked"),
        )
        grid.install()
        return grid

    def install(self) -> None:
        """Write the CA directory again."""
        revoked = (self.revoked.certificate, self.revoked_intermediate.certificate)
        impostor = Authority(certificate=self.foreign_crl.certificate, key=key("impostor"))
        old = self.old_crl.revocation_list(updated=days_ago(9), lifetime=DAY)
        self._write(self.root, crl=self.root.revocation_list(revoked))
        self._write(self.intermediate)
        self._write(self.revoked_intermediate)
        self._write(self.stray_intermediate)
        self._write(self.no_crl)
        self.file(self.no_crl, "r0").unlink()
        self._write(self.old_crl, crl=old)
        self._write(self.foreign_crl, crl=impostor.revocation_list())
        self._write(self.no_policy)
        self.file(self.no_policy, "signing_policy").unlink()
        self._write(self.broken_policy, policy="access_id_CA X509 'never closed")

    def chain(self, credential: Credential | None) -> list[bytes]:
        """The chain in DER, from its leaf to its trust anchor, as OpenSSL would hand it over."""
        if credential is None:
            return []
        chain = [credential.certificate, *credential.chain]
        values = [getattr(self, field.name) for field in fields(self)]
        roots = [one.certificate for one in values if isinstance(one, Authority)]
        issuer = dn.issuer(chain[-1])
        chain += [root for root in roots if dn.subject(root) == issuer and root not in chain]
        if issuer != dn.issuer(chain[-1]):
            chain.append(self.root.certificate)
        return [one.public_bytes(serialization.Encoding.DER) for one in chain]

    def revoke(self, *revoked: x509.Certificate) -> None:
        """Replace the root CA's revocation list."""
        self.write_crl(self.root, self.root.revocation_list(revoked))

    def write_crl(self, authority: Authority, crl: x509.CertificateRevocationList) -> None:
        pki.write(self.file(authority, "r0"), crl.public_bytes(serialization.Encoding.PEM))

    def file(self, authority: Authority, suffix: str) -> Path:
        base = dn.name_hash(dn.subject(authority.certificate))
        return self.directory / f"{base}.{suffix}"

    def _write(
        self,
        authority: Authority,
        *,
        crl: x509.CertificateRevocationList | None = None,
        policy: str | None = None,
    ) -> None:
        pki.write(self.file(authority, "0"), pki.certificate_pem(authority.certificate))
        rules = policy or authority.signing_policy("/O=Grid/*")
        pki.write(self.file(authority, "signing_policy"), rules.encode())
        current = authority.revocation_list() if crl is None else crl
        self.write_crl(authority, current)


def _root(common_name: str) -> Authority:
    return Authority.create(
        pki.name(("O", "Grid"), ("CN", common_name)), key=key(f"CA {common_name}")
    )


def _intermediate(root: Authority, organisation: str, common_name: str) -> Authority:
    own = key(f"CA {common_name}")
    subject = pki.name(("O", organisation), ("CN", common_name))
    issuer = root.certificate.subject
    issued = certificate(subject, issuer, public=own, signer=root.key, extensions=(IS_CA, CA_USE))
    return Authority(certificate=issued, key=own)


# --- users and their proxies


def user(authority: Authority, common_name: str = "alice", **changes: Any) -> Credential:
    """A user's credential; `changes` go to `certificate`, or are its `key` or `subject`."""
    own = changes.pop("key", None) or key("user")
    subject = changes.pop("subject", None)
    issued = certificate(
        subject or name_of(common_name),
        authority.certificate.subject,
        public=own,
        signer=authority.key,
        **{"extensions": USUAL, **changes},
    )
    issuer = authority.certificate
    chain = () if issuer.subject == issuer.issuer else (issuer,)
    return Credential(certificate=issued, key=own, chain=chain)


def alice(grid: Grid, **changes: Any) -> Credential:
    return user(grid.root, **changes)


def named(authority: Authority, subject: bytes) -> Credential:
    """A user with a subject that is given as DER."""
    usual = user(authority)
    changed = rewritten(usual.certificate, authority.key, subject=subject)
    return Credential(certificate=changed, key=usual.key, chain=usual.chain)


def signed_with(authority: Authority, digest: str) -> Credential:
    usual = user(authority)
    changed = rewritten(usual.certificate, authority.key, digest=digest)
    return Credential(certificate=changed, key=usual.key, chain=usual.chain)


def proxy(
    issuer: Credential, *, signer: Any = None, info: bytes | None = None, **changes: Any
) -> Credential:
    """A proxy; `info` is the proxyCertInfo's DER, `added` what its subject has beyond."""
    own = changes.pop("key", None) or key(f"proxy {len(issuer.chain)}")
    added = changes.pop("added", None) or [part(CN=str(secrets.randbelow(2**31)))]
    subject = changes.pop("subject", None) or _extended(issuer.certificate.subject, added)
    critical = changes.pop("critical", True)
    extensions = changes.pop("extensions", (USE,))
    if info is not None:
        carried = x509.UnrecognizedExtension(pki.PROXY_CERT_INFO, info)
        extensions = ((carried, critical), *extensions)
    issued = certificate(
        subject,
        issuer.certificate.subject,
        public=own,
        signer=signer or issuer.key,
        extensions=extensions,
        **changes,
    )
    return Credential(certificate=issued, key=own, chain=(issuer.certificate, *issuer.chain))


def full(issuer: Credential, **changes: Any) -> Credential:
    return proxy(issuer, info=info(pki.INHERIT_ALL), **changes)


def limited(issuer: Credential, **changes: Any) -> Credential:
    return proxy(issuer, info=info(pki.LIMITED), **changes)


def info(language: bytes, *, path_length: int | None = None, policy: bytes | None = None) -> bytes:
    """A proxyCertInfo's DER."""
    length = b"" if path_length is None else der.encode(der.INTEGER, bytes([path_length]))
    text = b"" if policy is None else der.encode(der.OCTET_STRING, policy)
    return der.encode(der.SEQUENCE, length + der.encode(der.SEQUENCE, language + text))


def bounded(issuer: Credential, path_length: int) -> Credential:
    """A proxy that allows so many below itself."""
    return proxy(issuer, info=info(pki.INHERIT_ALL, path_length=path_length))


def name_of(*common_names: str, organisation: str = "Grid") -> x509.Name:
    """/O=Grid/OU=users with these CNs below."""
    attributes = [("CN", one) for one in common_names]
    return pki.name(("O", organisation), ("OU", "users"), *attributes)


def part(**attributes: str) -> x509.RelativeDistinguishedName:
    """One part of a name: part(CN="1"), part(CN="1", OU="2")."""
    return x509.RelativeDistinguishedName(
        [x509.NameAttribute(pki.ATTRIBUTES[label], value) for label, value in attributes.items()]
    )


def _extended(base: x509.Name, added: list[x509.RelativeDistinguishedName]) -> x509.Name:
    return x509.Name([*base.rdns, *added])


def resigned(issuer: Credential, digest: str) -> Credential:
    """A proxy signed with this digest."""
    made = full(issuer)
    changed = rewritten(made.certificate, issuer.key, digest=digest)
    return Credential(certificate=changed, key=made.key, chain=made.chain)


def draft(issuer: Credential) -> Credential:
    """A proxy as Globus 3 made them before there was RFC 3820."""
    carried = x509.UnrecognizedExtension(DRAFT_PROXY_CERT_INFO, info(pki.INHERIT_ALL))
    return proxy(issuer, extensions=((carried, False), USE))


def issued_by(issuer: Credential) -> Credential:
    """An ordinary certificate that a user issued."""
    below = user(Authority(certificate=issuer.certificate, key=issuer.key), "bob")
    return Credential(
        certificate=below.certificate,
        key=below.key,
        chain=(issuer.certificate, *issuer.chain),
    )


def own(authority: Authority) -> Credential:
    """The CA's own certificate as a credential."""
    return Credential(certificate=authority.certificate, key=authority.key)


def presented(credential: Credential | None) -> str | None:
    """The subject of what is shown, as OpenSSL prints it; None where there is none to print."""
    if credential is None:
        return None
    encoding = credential.certificate.public_bytes(serialization.Encoding.DER)
    names = describe_certificate(encoding)
    return names[0] if names else None


def self_signed(common_name: str = "alice") -> Credential:
    signer, subject = key("user"), name_of(common_name)
    made = certificate(subject, subject, public=signer, signer=signer, extensions=USUAL)
    return Credential(certificate=made, key=signer)


def deep(credential: Credential, levels: int) -> Credential:
    for _ in range(levels):
        credential = full(credential)
    return credential

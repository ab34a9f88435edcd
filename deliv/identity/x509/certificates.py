"""One certificate of a chain: its names as they were signed, and how strong its key is."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from deliv.errors import CredentialRefused
from deliv.identity.x509 import dn

E = TypeVar("E", bound=x509.ExtensionType)

RSA_BITS, MOST_RSA_BITS = 2048, 8192
MOST_EXPONENT_BITS = 32  # usual is 65537; the time to verify a signature grows with its length
EC_BITS = 256
HASHES = frozenset(
    {"sha224", "sha256", "sha384", "sha512", "sha3-224", "sha3-256", "sha3-384", "sha3-512"}
)
EDWARDS = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
# What `cryptography` raises for malformed certificates.
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, kw_only=True)
class ChainLink:
    """A certificate of a chain, with its names parsed and in DER."""

    certificate: x509.Certificate
    extensions: x509.Extensions
    subject: dn.Name
    issuer: dn.Name
    subject_der: bytes
    issuer_der: bytes

    @property
    def dn(self) -> str:
        return dn.oneline_rdns(self.subject)

    @property
    def self_issued(self) -> bool:
        return self.subject_der == self.issuer_der

    @property
    def expires(self) -> datetime:
        return self.certificate.not_valid_after_utc

    def extension(self, kind: type[E]) -> E | None:
        try:
            return self.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None

    def has(self, oid: str) -> bool:
        return any(extension.oid.dotted_string == oid for extension in self.extensions)

    @property
    def is_authority(self) -> bool:
        constraints = self.extension(x509.BasicConstraints)
        return constraints is not None and constraints.ca


def load(encoding: bytes) -> ChainLink:
    """A certificate from its DER; CredentialRefused when it is malformed."""
    try:
        certificate = x509.load_der_x509_certificate(encoding)
        subject, issuer = dn.subject(certificate), dn.issuer(certificate)
        for name in (subject, issuer):
            dn.name_hash(name)  # ValueError: no CA files can be found for such a name
        return ChainLink(
            certificate=certificate,
            extensions=certificate.extensions,
            subject=dn.parse(subject),
            issuer=dn.parse(issuer),
            subject_der=subject,
            issuer_der=issuer,
        )
    except MALFORMED as error:
        raise CredentialRefused(f"a malformed certificate: {error}") from error


def subject(encoding: bytes) -> str | None:
    """What the certificate says that it is of, nothing of which is verified; None: malformed."""
    try:
        return dn.oneline(dn.subject(x509.load_der_x509_certificate(encoding)))
    except MALFORMED:
        return None


def thumbprint(encoding: bytes) -> str:
    """A certificate's x5t#S256 (RFC 8705): SHA-256 of its DER, in base64url without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(encoding).digest()).decode().rstrip("=")


def key_problem(certificate: x509.Certificate) -> str | None:
    """Why the certificate's key is not accepted, too weak or too costly; None when it is."""
    try:
        key = certificate.public_key()
    except MALFORMED:
        return "its key is of an unknown kind"
    if isinstance(key, rsa.RSAPublicKey):
        return _below(key.key_size, RSA_BITS, "RSA") or _cost(key)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _below(key.key_size, EC_BITS, "elliptic-curve")
    return None if isinstance(key, EDWARDS) else "its key is neither RSA nor elliptic-curve"


def signature_problem(certificate: x509.Certificate) -> str | None:
    """Why the signature on the certificate is not accepted; None when it is."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except MALFORMED:
        return "it is signed with an unknown algorithm"
    if algorithm is None or algorithm.name in HASHES:
        return None
    return f"it is signed with {algorithm.name.upper()}"


def costly(chain_der: Iterable[bytes]) -> bool:
    """Whether a key of the chain is one that is refused because verifying with it takes long."""
    for encoding in chain_der:
        try:
            key = x509.load_der_x509_certificate(encoding).public_key()
        except MALFORMED:
            continue
        if isinstance(key, rsa.RSAPublicKey) and _cost(key):
            return True
    return False


def _cost(key: rsa.RSAPublicKey) -> str | None:
    if key.key_size > MOST_RSA_BITS:
        return f"its RSA key has {key.key_size} bits, more than {MOST_RSA_BITS}"
    bits = key.public_numbers().e.bit_length()
    if bits > MOST_EXPONENT_BITS:
        return f"its RSA key has a public exponent of {bits} bits, more than {MOST_EXPONENT_BITS}"
    return None


def _below(bits: int, least: int, kind: str) -> str | None:
    return f"its {kind} key has {bits} bits, fewer than {least}" if bits < least else None

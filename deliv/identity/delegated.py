"""A proxy that a caller signs for a key of deliv's (RFC 3820), as the gridsite calls send it.

It must be signed by the certificate that the caller presents on this connection, and come with that
one's chain: so everything above it has been verified by TLS and by `chain.identify` already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from deliv.errors import InvalidRequest
from deliv.identity.x509 import chain
from deliv.identity.x509.certificates import MALFORMED
from deliv.identity.x509.chain import Identity
from deliv.identity.x509.proxy import MOST

KEY_BITS = 2048
LONGEST = MOST + 8  # certificates: the proxies, the user's, and CAs that the client adds

Identify = Callable[[list[bytes]], Identity]


@dataclass(frozen=True, kw_only=True)
class DelegatedProxy:
    """A proxy as it was sent: `pem` with its chain, `key` is the public one, in DER."""

    pem: str
    key: bytes
    chain: tuple[x509.Certificate, ...]


def new_request() -> tuple[str, bytes]:
    """A certificate request and its new private key, in PEM. RSA: Globus reads no others."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "deliv")])
    request = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return request.public_bytes(Encoding.PEM).decode(), private


def public_key(private: bytes) -> bytes:
    """The public key of a private one in PEM, in the form of DelegatedProxy.key."""
    return encode_key(load_pem_private_key(private, password=None).public_key())


def read(body: bytes) -> DelegatedProxy:
    """The proxy and its chain from PEM, the proxy first; InvalidRequest when they are malformed."""
    try:
        certificates = x509.load_pem_x509_certificates(body)
        key = encode_key(certificates[0].public_key())
    except MALFORMED as error:
        raise _refused("malformed PEM") from error
    if not 2 <= len(certificates) <= LONGEST:
        raise _refused(f"expected a proxy and its chain, at most {LONGEST} certificates")
    pem = "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)
    return DelegatedProxy(pem=pem, key=key, chain=tuple(certificates))


def check(
    proxy: DelegatedProxy, presented: Sequence[bytes], dn: str, identify: Identify
) -> datetime:
    """When a proxy for `dn` ends; InvalidRequest or CredentialRefused when it is not acceptable.

    `presented` is the caller's chain, which TLS has verified, in DER, leaf first.
    """
    first, *above = proxy.chain
    encoded = [certificate.public_bytes(Encoding.DER) for certificate in above]
    parts = chain.split(presented)
    if encoded != list(presented[: len(encoded)]) or len(encoded) <= len(parts.proxies):
        raise _refused("it was not signed with the certificate that you show, or lacks its chain")
    try:
        first.verify_directly_issued_by(above[0])
    except (InvalidSignature, *MALFORMED) as error:
        raise _refused("its signature is not that of the certificate above it") from error
    identity = identify([first.public_bytes(Encoding.DER), *presented])
    if not identity.is_proxy or identity.dn != dn:
        raise _refused("it is not a proxy of yours")
    return identity.not_after


def encode_key(key: object) -> bytes:
    """A public key in DER; ValueError unless it is RSA."""
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("the key is not RSA")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"the proxy can't be taken: {reason}")

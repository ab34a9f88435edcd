"""Who is at the other end of a TLS connection, as OpenSSL verified it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from cryptography import x509

from deliv.identity.x509.dn import oneline

PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")


def verified_chain(connection: ssl.SSLSocket) -> list[x509.Certificate]:
    """The chain that OpenSSL verified, leaf first.

    SSLSocket.get_verified_chain is public from Python 3.13 on, and on the inner object before.
    """
    public = getattr(connection, "get_verified_chain", None)
    if public is not None:
        return [x509.load_der_x509_certificate(der) for der in public()]
    chain = connection._sslobj.get_verified_chain() or []  # type: ignore[attr-defined]
    return [x509.load_pem_x509_certificate(item.public_bytes().encode()) for item in chain]


def is_proxy(certificate: x509.Certificate) -> bool:
    return any(extension.oid == PROXY_CERT_INFO for extension in certificate.extensions)


def user_dn(chain: Sequence[x509.Certificate]) -> str | None:
    """The DN of the first certificate that is no proxy; None for an empty chain."""
    names = (oneline(certificate.subject) for certificate in chain if not is_proxy(certificate))
    return next(names, None)

"""TLS of the stack's own servers: their contexts, and who is at the other end of a connection."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from cryptography import x509
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPServerRequest
from tornado.iostream import IOStream

from deliv.identity.x509.dn import oneline
from deliv_testbed.settings import ServerSettings

PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")


def server_context(settings: ServerSettings, client_certificate: ssl.VerifyMode) -> ssl.SSLContext:
    """For listening: client certificates of trusted CAs, RFC 3820 proxies among them.

    `client_certificate` is CERT_REQUIRED or CERT_OPTIONAL. A certificate of an unknown CA is a TLS
    alert in both. No tickets: a resumed session carries no certificate chain.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = client_certificate
    context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.load_verify_locations(capath=settings.ca_directory)
    context.load_cert_chain(settings.certificate, settings.key)
    return context


def client_context(certificate: Path, key: Path, ca_directory: Path) -> ssl.SSLContext:
    """For calling others: the server's chain and host name are verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(capath=ca_directory)
    context.load_cert_chain(certificate, key)
    return context


def stream_of(request: HTTPServerRequest) -> IOStream:
    """The connection that a request came by."""
    return cast("HTTP1Connection", request.connection).stream


def client_certificate(stream: IOStream) -> bytes | None:
    """The certificate that the client has shown, in DER form."""
    return cast("ssl.SSLSocket", stream.socket).getpeercert(binary_form=True)


def verified_chain(stream: IOStream) -> list[x509.Certificate]:
    """The client's chain as OpenSSL verified it, leaf first; empty without a certificate.

    SSLSocket.get_verified_chain is public from Python 3.13 on, and on the inner object before.
    """
    connection = cast("ssl.SSLSocket", stream.socket)
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

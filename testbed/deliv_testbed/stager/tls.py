"""TLS of both directions: callers need a certificate, and so does the callback."""

from __future__ import annotations

import ssl

from deliv_testbed.stager.settings import Settings


def server_context(settings: Settings) -> ssl.SSLContext:
    """For listening: a client certificate (or RFC 3820 proxy) of a trusted CA is required.

    No tickets: a resumed session carries no certificate chain.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.load_verify_locations(capath=settings.ca_directory)
    context.load_cert_chain(settings.certificate, settings.key)
    return context


def client_context(settings: Settings) -> ssl.SSLContext:
    """For calling back: the server's chain and host name are verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(capath=settings.ca_directory)
    context.load_cert_chain(settings.client_certificate, settings.client_key)
    return context

"""TLS of the dummy FTS: a client certificate is asked for, not required."""

from __future__ import annotations

import ssl

from deliv_testbed.fts.settings import Settings


def server_context(settings: Settings) -> ssl.SSLContext:
    """Accepts RFC 3820 proxies; an unknown CA is a TLS alert, no certificate is "anon".

    No tickets: a resumed session carries no certificate chain.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.load_verify_locations(capath=settings.ca_directory)
    context.load_cert_chain(settings.certificate, settings.key)
    return context

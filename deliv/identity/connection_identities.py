"""The identity of the caller on each open connection.

It is determined again when the files that decide about callers change, and when the first of a
chain's certificates, CRLs and attributes ends.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from deliv.errors import CredentialRefused
from deliv.identity.tls import ServerTls, client_chain, presented_subject
from deliv.identity.x509.chain import Attributes, Identity

log = structlog.get_logger()


class ConnectionIdentities:
    """Identities by connection: an SSLSocket, an SSLObject or a stream of Tornado's."""

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._known: WeakKeyDictionary[Any, tuple[int, Identity | str]] = WeakKeyDictionary()

    def of(self, connection: Any) -> Identity:
        """The caller's identity; CredentialRefused when the chain is not or no longer accepted."""
        connection = getattr(connection, "socket", connection)
        if connection is None:
            raise CredentialRefused("the connection has been closed")
        generation, outcome = self._known.get(connection, (None, ""))
        lapsed = isinstance(outcome, Identity) and outcome.lapses < datetime.now(UTC)
        if generation != self._tls.generation or lapsed:
            generation = self._tls.generation
            try:
                outcome = self._tls.identify(verified_chain(connection))
            except CredentialRefused as error:
                outcome = str(error)
            else:
                refused = outcome.attributes.refused
                if refused:
                    log.warning("VOMS attributes do not count", dn=outcome.dn, reason=refused)
            self._known[connection] = generation, outcome
        if isinstance(outcome, str):
            raise CredentialRefused(outcome)
        return outcome

    def chain(self, connection: Any) -> list[bytes]:
        """The caller's verified chain in DER, leaf first."""
        return verified_chain(getattr(connection, "socket", connection))

    def unverified_subject(self, connection: Any) -> str | None:
        """What the certificate says that a caller has presented who is refused."""
        connection = getattr(connection, "socket", connection)
        return None if connection is None else presented_subject(connection)

    def identify(self, chain_der: list[bytes]) -> Identity:
        """See ServerTls.identify."""
        return self._tls.identify(chain_der)

    def attributes(self, proxy_pem: bytes) -> Attributes:
        """See ServerTls.attributes."""
        return self._tls.attributes(proxy_pem)


def verified_chain(connection: Any) -> list[bytes]:
    """The chain that OpenSSL verified, in DER, leaf first; CredentialRefused when there is none."""
    if connection.session_reused:
        raise CredentialRefused("a resumed TLS session, which carries no certificates")
    chain = client_chain(connection)
    if not chain:
        raise CredentialRefused("no verified client certificate")
    return chain

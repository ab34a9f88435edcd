"""TLS towards callers: a client certificate or nothing, from the CAs of a grid CA directory.

Each connection starts on a context of its own and switches to the shared one (certificate, CAs,
CRLs) when the client's greeting has arrived. So a changed file counts from the next connection
on, no open one is closed for it, and nothing outlives a connection that a second one could
resume: a resumed session would carry no chain and verify nothing.

Who is behind an open connection is worked out again when the files that decide about callers
change, and when the first of a chain's certificates, CRLs and attributes ends.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from deliv.errors import ConfigError, CredentialRefused
from deliv.identity.files import stamp
from deliv.identity.trust import TrustFiles
from deliv.identity.voms.verification import VomsVerifier
from deliv.identity.x509.anchors import Anchors
from deliv.identity.x509.chain import NO_ATTRIBUTES, Attributes, Identity, identify
from deliv.identity.x509.revocation import Mode, Revocations
from deliv.identity.x509.signing_policy import SigningPolicies
from deliv.ops.audit import address

log = structlog.get_logger()

# TLS 1.2: forward secrecy and authenticated encryption only; TLS 1.3 has no others. Level 2 asks
# for keys of 2048 bits and signatures better than SHA-1.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
OPTIONS = (
    ssl.OP_NO_TICKET
    | ssl.OP_NO_RENEGOTIATION
    | ssl.OP_NO_COMPRESSION
    | ssl.OP_CIPHER_SERVER_PREFERENCE
)
UNFINISHED = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
LEFT = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # the client went away: nobody was refused

OnRefusal = Callable[[str, str], None]


class ServerTls:
    """The server's side of TLS. `.context` stays the same object for the life of the service.

    `on_refusal(peer, reason)` is told of every handshake that failed. `vomsdir` None: callers have
    no VOMS attributes; `host` is how they call this service. A certificate, key or directory that
    can't be used raises ConfigError.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        ca_directory: Path,
        crl: Mode = "hard",
        *,
        on_refusal: OnRefusal | None = None,
        vomsdir: Path | None = None,
        host: str = "",
    ) -> None:
        self._directory = ca_directory
        self._crl = crl
        self._on_refusal = on_refusal
        self._own = _OwnCredential(certificate, key, self._context)
        self._trust = TrustFiles(ca_directory, vomsdir)
        self._shared = self._load()
        self.generation = 0  # grows with each change of what decides about callers
        self.context: ssl.SSLContext = _Entrance(self._greeting)
        self.anchors = Anchors(ca_directory)
        self.policies = SigningPolicies(ca_directory)
        self.revocations = Revocations(ca_directory, crl)
        self._voms = self._voms_servers(vomsdir, host) if vomsdir else None

    def reload(self) -> bool:
        """Take up changed files; False when nothing changes by it.

        The trust in callers and our own certificate are independent of each other: while our own
        files are broken the last good pair stays in use. A broken file of the CA directory or the
        vomsdir makes no caller trusted.
        """
        trust, own = self._trust.refresh(), self._own.refresh()
        if trust:
            self.generation += 1
        if trust or own:
            self._shared = self._load()
        return trust or own

    def unusable(self) -> list[str]:
        """The files and directories that can't be read or are broken, each with the reason."""
        files = [f"{path}: {reason}" for path, reason in sorted(self._trust.unusable.items())]
        return [self._own.broken, *files] if self._own.broken else files

    def identify(self, chain_der: list[bytes]) -> Identity:
        """The identity behind a verified chain, as the files stand now."""
        return identify(
            chain_der,
            now=datetime.now(UTC),
            policies=self.policies,
            revocations=self.revocations,
            anchors=self.anchors,
            read_attributes=self._voms.read if self._voms else None,
        )

    def attributes(self, proxy_pem: bytes) -> Attributes:
        """What VOMS says in a proxy and its chain, in PEM, which was verified before."""
        if self._voms is None:
            return NO_ATTRIBUTES
        return self._voms.of_pem(proxy_pem, datetime.now(UTC))

    def _voms_servers(self, vomsdir: Path, host: str) -> VomsVerifier:
        return VomsVerifier(
            vomsdir,
            host,
            policies=self.policies,
            revocations=self.revocations,
            anchors=self.anchors,
        )

    def _greeting(self) -> ssl.SSLContext:
        context = self._context()
        context.sni_callback = self._take_over
        return context

    def _take_over(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._shared

    def _load(self) -> ssl.SSLContext:
        context = self._own.context()
        context.load_verify_locations(capath=self._directory)
        return context

    def _context(self) -> _Context:
        context = _Context(ssl.PROTOCOL_TLS_SERVER)
        context.on_refusal = self._on_refusal
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= OPTIONS
        context.num_tickets = 0
        context.set_ciphers(CIPHERS)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS
        if self._crl == "hard":
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        return context


class _OwnCredential:
    """Our certificate and key: the last pair that could be used. `broken`: why not a newer one.

    The pair is kept in memory, since the CAs and CRLs of a context can't be exchanged: a change
    of theirs needs a new context, also while the files are broken. ConfigError at the start.
    """

    def __init__(self, certificate: Path, key: Path, fresh: Callable[[], ssl.SSLContext]) -> None:
        self._files = certificate, key
        self._fresh = fresh
        self._stamps: object = None
        self.broken: str | None = None
        self.refresh()
        if self.broken is not None:
            raise ConfigError(self.broken)

    def refresh(self) -> bool:
        """Look at the files; True when another pair is in use than before."""
        try:
            stamps = tuple(map(stamp, self._files))
            if stamps == self._stamps:
                return False
            pair = tuple(path.read_bytes() for path in self._files)
            self._loaded(pair)
        except (OSError, ValueError) as error:
            self._stamps = None
            self.broken = f"{self._files[0]}, {self._files[1]}: {error}"
            return False
        self._stamps, self._pair, self.broken = stamps, pair, None
        return True

    def context(self) -> ssl.SSLContext:
        """A new context that shows the pair."""
        return self._loaded(self._pair)

    def _loaded(self, pair: tuple[bytes, ...]) -> ssl.SSLContext:
        context = self._fresh()
        certificate, key = pair
        with _in_memory(certificate) as certificate_file, _in_memory(key) as key_file:
            context.load_cert_chain(certificate_file, key_file, password=_no_password)
        return context


class ConnectionIdentities:
    """Who is behind each connection: worked out once, again when it lapses or trust changed."""

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._known: WeakKeyDictionary[Any, tuple[int, Identity | str]] = WeakKeyDictionary()

    def of(self, connection: Any) -> Identity:
        """The caller's identity; `connection` is an SSLSocket, an SSLObject or Tornado's stream.

        CredentialRefused, with the reason, when the chain is not acceptable (any more).
        """
        connection = getattr(connection, "socket", connection)
        if connection is None:
            raise CredentialRefused("the connection has been closed")
        known = self._known.get(connection)
        if known is None or known[0] != self._tls.generation or _lapsed(known[1]):
            known = self._tls.generation, self._identify(connection)
            self._known[connection] = known
        outcome = known[1]
        if isinstance(outcome, str):
            raise CredentialRefused(outcome)
        return outcome

    def chain(self, connection: Any) -> list[bytes]:
        """The caller's verified chain in DER, leaf first."""
        return peer(getattr(connection, "socket", connection))

    def identify(self, chain_der: list[bytes]) -> Identity:
        """See ServerTls.identify."""
        return self._tls.identify(chain_der)

    def attributes(self, proxy_pem: bytes) -> Attributes:
        """See ServerTls.attributes."""
        return self._tls.attributes(proxy_pem)

    def _identify(self, connection: Any) -> Identity | str:
        try:
            found = self._tls.identify(peer(connection))
        except CredentialRefused as error:
            return str(error)
        if found.attributes.refused:
            reason = found.attributes.refused
            log.warning("VOMS attributes do not count", dn=found.dn, reason=reason)
        return found


def _lapsed(known: Identity | str) -> bool:
    return isinstance(known, Identity) and known.lapses < datetime.now(UTC)


def peer(connection: ssl.SSLSocket | ssl.SSLObject) -> list[bytes]:
    """The chain that OpenSSL verified, in DER, the caller's certificate first.

    CredentialRefused when there is none.
    """
    if connection.session_reused:
        raise CredentialRefused("a resumed TLS session, which carries no certificates")
    chain = _verified_chain(connection)
    if not chain:
        raise CredentialRefused("no verified client certificate")
    return chain


def _verified_chain(connection: Any) -> list[bytes]:
    if hasattr(connection, "get_verified_chain"):  # Python 3.13
        return list(connection.get_verified_chain())
    encode = ssl._ssl.ENCODING_DER  # type: ignore[attr-defined]
    chain = connection._sslobj.get_verified_chain() or ()
    return [certificate.public_bytes(encode) for certificate in chain]


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path to read it from: OpenSSL's Python module takes files alone."""
    with os.fdopen(os.memfd_create("pem"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


class _Context(ssl.SSLContext):
    on_refusal: OnRefusal | None = None


class _Socket(ssl.SSLSocket):
    """Tells of handshakes that fail, which no request will ever show."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (*UNFINISHED, *LEFT):
            raise
        except ssl.SSLError as error:
            hook = getattr(self.context, "on_refusal", None)
            if hook is not None:
                hook(_peer_name(self), _reason(error))
            raise


_Context.sslsocket_class = _Socket


class _Entrance(ssl.SSLContext):
    """Looks like one context and gives every connection its own."""

    _fresh: Callable[[], ssl.SSLContext]

    def __new__(cls, fresh: Callable[[], ssl.SSLContext]) -> _Entrance:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self._fresh = fresh
        return self

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self._fresh().wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self._fresh().wrap_bio(*args, **kwargs)


def _no_password() -> str:
    raise ValueError("the key is encrypted; a service needs one that is not")


def _reason(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", None) or error.reason or error)


def _peer_name(connection: ssl.SSLSocket) -> str:
    try:
        host, port = connection.getpeername()[:2]
    except OSError:
        return "unknown"
    return address(host, port)

"""TLS towards callers: a client certificate from a CA of the grid CA directory is required.

Each connection starts with a context of its own and switches to the shared one (certificate, CAs,
CRLs) when the ClientHello has arrived. So a changed file counts from the next connection on, no
open one is closed for it, and there is no session that a second connection could resume: a resumed
one has no chain, and nothing would be verified.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deliv.errors import ConfigError
from deliv.identity.trust import TrustFiles
from deliv.identity.voms.verification import VomsVerifier
from deliv.identity.x509 import certificates
from deliv.identity.x509.anchors import Anchors
from deliv.identity.x509.chain import NO_ATTRIBUTES, Attributes, Identity, identify
from deliv.identity.x509.revocation import Mode, Revocations
from deliv.identity.x509.signing_policy import SigningPolicies
from deliv.ops.audit import address
from deliv.ops.files import WatchedFiles

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
CLOSED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # by the client, which is no refusal

OnRefusal = Callable[[str, str, str | None], None]


class ServerTls:
    """The server's side of TLS. `.context` stays the same object while the service runs.

    `on_refusal(address, reason, subject)` is called for each handshake that failed; the
    subject is that of the certificate presented, not verified. `vomsdir` None: callers have no VOMS
    attributes; `host` is the name of this service in them. A certificate, key or directory that
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
        self._trust = TrustFiles(ca_directory, vomsdir, crl)
        self._shared = self._load()
        self.generation = 0  # grows with each change of what decides about callers
        self.context: ssl.SSLContext = _ContextPerConnection(self._context, lambda: self._shared)
        self.anchors = Anchors(ca_directory)
        self.policies = SigningPolicies(ca_directory)
        self.revocations = Revocations(ca_directory, crl)
        self._voms: VomsVerifier | None = None
        if vomsdir is not None:
            self._voms = VomsVerifier(
                vomsdir,
                host,
                policies=self.policies,
                revocations=self.revocations,
                anchors=self.anchors,
            )

    def reload(self) -> bool:
        """Read changed files again; False when none has changed.

        The trust in callers and our own certificate are independent of each other: while our own
        files are broken the last good pair stays in use. With a broken file of the CA directory or
        the vomsdir no caller becomes trusted.
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

    @property
    def certificate(self) -> bytes:
        """Our own certificate that is in use, with its chain, in PEM."""
        return self._own.certificate

    @property
    def crl_ends(self) -> dict[str, datetime]:
        """When each revocation list ends, by its file's name."""
        return self._trust.crl_ends

    @property
    def missing_lists(self) -> dict[str, str]:
        """The CA whose lists do not count, by the name of the list that is missing before them."""
        return self._trust.missing_lists

    def identify(self, chain_der: list[bytes]) -> Identity:
        """The identity behind a verified chain, by the files as they are now."""
        return identify(
            chain_der,
            now=datetime.now(UTC),
            policies=self.policies,
            revocations=self.revocations,
            anchors=self.anchors,
            read_attributes=self._voms.read if self._voms else None,
        )

    def attributes(self, proxy_pem: bytes) -> Attributes:
        """The VOMS attributes in a proxy and its chain, in PEM, which was verified before."""
        if self._voms is None:
            return NO_ATTRIBUTES
        return self._voms.of_pem(proxy_pem, datetime.now(UTC))

    def _load(self) -> ssl.SSLContext:
        context = self._own.context()
        context.load_verify_locations(capath=self._directory)
        return context

    def _context(self) -> _CallerContext:
        context = _CallerContext(ssl.PROTOCOL_TLS_SERVER)
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
    """Our certificate and key: the last pair that could be used. ConfigError at the start.

    The pair is kept in memory, since the CAs and CRLs of a context can't be exchanged: a change
    of theirs needs a new context, also while the files are broken.
    """

    def __init__(self, certificate: Path, key: Path, fresh: Callable[[], ssl.SSLContext]) -> None:
        self._paths = certificate, key
        self._fresh = fresh
        self._files = WatchedFiles(self._read, certificate, key)
        self._files.refresh()
        if self.broken is not None:
            raise ConfigError(self.broken)

    @property
    def broken(self) -> str | None:
        """Why the pair in use is not a newer one."""
        error, (certificate, key) = self._files.broken, self._paths
        return None if error is None else f"{certificate}, {key}: {error}"

    @property
    def certificate(self) -> bytes:
        return self._files.value[0]

    def refresh(self) -> bool:
        """Look at the files; True when another pair is in use than before."""
        return self._files.refresh()

    def context(self) -> ssl.SSLContext:
        """A new context with the pair."""
        return self._loaded(*self._files.value)

    def _read(self, certificate: Path, key: Path) -> tuple[bytes, bytes]:
        pair = certificate.read_bytes(), key.read_bytes()
        self._loaded(*pair)
        return pair

    def _loaded(self, certificate: bytes, key: bytes) -> ssl.SSLContext:
        context = self._fresh()
        with _in_memory(certificate) as certificate_file, _in_memory(key) as key_file:
            context.load_cert_chain(certificate_file, key_file, password=_no_password)
        return context


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path that the content can be read from: the ssl module accepts only files."""
    with os.fdopen(os.memfd_create("pem"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


class _CallerContext(ssl.SSLContext):
    on_refusal: OnRefusal | None = None


class _CallerSocket(ssl.SSLSocket):
    """Reports handshakes that fail, since they never become a request."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (*UNFINISHED, *CLOSED):
            raise
        except ssl.SSLError as error:
            hook = getattr(self.context, "on_refusal", None)
            if hook is not None:
                caller = "unknown"
                with suppress(OSError):
                    caller = address(*self.getpeername()[:2])
                reason = str(getattr(error, "verify_message", None) or error.reason or error)
                hook(caller, reason, presented_subject(self))
            raise


_CallerContext.sslsocket_class = _CallerSocket


class _ContextPerConnection(ssl.SSLContext):
    """Used as one context, it makes a `fresh` one for each connection.

    At the ClientHello the context that is `shared` then replaces it.
    """

    _fresh: Callable[[], ssl.SSLContext]
    _shared: Callable[[], ssl.SSLContext]

    def __new__(
        cls, fresh: Callable[[], ssl.SSLContext], shared: Callable[[], ssl.SSLContext]
    ) -> _ContextPerConnection:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self._fresh, self._shared = fresh, shared
        return self

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self._first().wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self._first().wrap_bio(*args, **kwargs)

    def _first(self) -> ssl.SSLContext:
        def replace(connection: Any, name: str | None, context: ssl.SSLContext) -> None:
            connection.context = self._shared()

        first = self._fresh()
        first.sni_callback = replace
        return first


def client_chain(connection: Any) -> list[bytes]:
    """The client's chain in DER, leaf first; empty without one.

    After a refused handshake it is what OpenSSL had of it, of which nothing needs to be true.
    """
    if hasattr(connection, "get_verified_chain"):  # Python 3.13
        return list(connection.get_verified_chain())
    encode = ssl._ssl.ENCODING_DER  # type: ignore[attr-defined]
    found = connection._sslobj.get_verified_chain() or ()
    return [certificate.public_bytes(encode) for certificate in found]


def presented_subject(connection: Any) -> str | None:
    """The subject of the certificate that a client has presented, be it accepted or not."""
    chain = client_chain(connection)
    return certificates.subject(chain[0]) if chain else None


def _no_password() -> str:
    raise ValueError("the key is encrypted; a service needs one that is not")

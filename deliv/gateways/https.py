"""The HTTPS client of everything deliv calls: FTS, the stager, an issuer of tokens. The only user
of pycurl.

    https = HttpsClient(config.credential, config.ca_directory)
    answer = await https.request("GET", "https://fts.example:8446/whoami", timeout=30)
    answer.status, answer.headers, answer.body, answer.json()

Trust comes from the CA directory (or file) alone, host names are verified, redirects are not
followed and proxies are not used, whatever the environment says. deliv's own certificate goes out
with its whole chain; a renewed one is used from the next request on. One busy host never delays
another: each has its own connections, and so has each `purpose` of requests to one host.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pycurl
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tornado.curl_httpclient import CurlAsyncHTTPClient, CurlError
from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders

from deliv import __version__, config
from deliv.errors import Unavailable, Unreachable
from deliv.gateways.redaction import Redaction
from deliv.ops.files import WatchedFiles, reason

log = structlog.get_logger()

MAX_BODY = 64 * 2**20
# Apache closes idle connections after 5 s; one about to be closed is not worth a try.
MAX_IDLE_SECONDS = 4
# Seconds past its time-out after which a request is given up even if curl reports nothing.
GRACE_SECONDS = 5.0

# Failures before the first byte of the request: the other side can't have acted on it.
_BEFORE_SENDING = frozenset(
    {
        pycurl.E_UNSUPPORTED_PROTOCOL,
        pycurl.E_URL_MALFORMAT,
        pycurl.E_COULDNT_RESOLVE_HOST,
        pycurl.E_COULDNT_CONNECT,
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CACERT_BADFILE,
    }
)
_CONNECTING = ("Resolving timed out", "Connection timed out", "SSL connection timeout")


@dataclass(frozen=True, kw_only=True)
class Response:
    """Any HTTP answer, error codes included."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body's JSON; None when it is something else."""
        try:
            return self.json()
        except Unreachable:
            return None

    def json(self) -> Any:
        """The body's JSON; Unreachable when it is something else, as a broken server's HTML."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            kind = self.headers.get("Content-Type", "no content type")
            raise Unreachable(f"answered {self.status} with {kind} instead of JSON") from error


@dataclass(frozen=True, kw_only=True)
class HeldCredential:
    """A certificate with its chain, and its key, in PEM: in memory only, and never shown."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)
    expires: datetime
    version: int = 1
    broken: str | None = None

    def refresh(self) -> tuple[bytes, bytes]:
        return self.certificate, self.key


class HttpsClient:
    """`connect_timeout` in seconds; at most `max_clients` requests at once to a host for a purpose.

    Without a `credential` it presents none. With a `ca_file` that is trusted, not the directory. An
    answer of more than `max_body` bytes is an error.
    """

    def __init__(
        self,
        credential: config.CredentialFiles | HeldCredential | None,
        ca_directory: Path,
        *,
        ca_file: Path | None = None,
        connect_timeout: float = 10.0,
        max_clients: int = 16,
        max_body: int = MAX_BODY,
    ) -> None:
        self._credential: _CredentialFiles | HeldCredential | _NoCredential
        if isinstance(credential, config.CredentialFiles):
            self._credential = _CredentialFiles(credential)
        else:
            self._credential = credential or _NoCredential()
        self._ca_directory = os.fsencode(ca_directory)  # pycurl takes only ASCII as str
        self._ca_file = os.fsencode(ca_file) if ca_file else None
        self._max_body = max_body
        self._connect_timeout = connect_timeout
        self._max_clients = max_clients
        self._pools: dict[tuple[str, str], _Pool] = {}
        self._closed = False

    @property
    def credential(self) -> tuple[bytes, bytes]:
        """deliv's certificate with its chain, and its key, both PEM, as the files are now."""
        return self._credential.refresh()

    @property
    def credential_version(self) -> int:
        """Grows whenever another certificate or key was read from the files."""
        self._credential.refresh()
        return self._credential.version

    @property
    def broken(self) -> str | None:
        """Why the credential's files, as they are now, can't be used."""
        return self._credential.broken

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        secrets: tuple[str, ...] = (),
        timeout: float = 30.0,
        purpose: str = "",
    ) -> Response:
        """One call, `timeout` seconds for all of it.

        `secrets` are parts of the request that must not be passed on: an answer or error that
        quotes them is returned without them.

        Unreachable when there is no HTTP answer: it names the host and the reason, and its `sent`
        says whether the request may have arrived. Unavailable when the credential is unusable.
        """
        host = urlsplit(url).netloc
        if self._closed:
            raise Unreachable(f"{host}: not called any more with this credential", sent=False)
        if (host, purpose) not in self._pools:
            self._pools[host, purpose] = _Pool(self._max_clients, self._max_body)
        pool = self._pools[host, purpose]
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                await pool.slots.acquire()
        except TimeoutError:
            reason = f"{host}: {self._max_clients} requests wait for its answer already"
            raise Unreachable(reason, sent=False) from None
        try:
            request = self._prepare(method, url, body, content_type, deadline)
            return await pool.fetch(request, host, Redaction(*secrets))
        finally:
            pool.slots.release()

    def close(self) -> None:
        """Drop all connections, a busy one when its request has ended; there is no new one."""
        self._closed = True
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def _prepare(
        self, method: str, url: str, body: bytes | None, content_type: str | None, deadline: float
    ) -> HTTPRequest:
        certificate, key = self.credential
        left = max(deadline - asyncio.get_running_loop().time(), 0.001)
        headers = {"Accept": "application/json"}
        if content_type is not None:
            headers["Content-Type"] = content_type
        return HTTPRequest(
            url,
            method=method,
            headers=headers,
            body=body,
            connect_timeout=min(self._connect_timeout, left),
            request_timeout=left,
            follow_redirects=False,
            user_agent=f"deliv/{__version__}",
            prepare_curl_callback=lambda curl: self._secure(curl, certificate, key),
        )

    def _secure(self, curl: pycurl.Curl, certificate: bytes, key: bytes) -> None:
        # The other one is unset: some libcurls would trust what is compiled in as well.
        if self._ca_file is None:
            curl.setopt(pycurl.CAPATH, self._ca_directory)
            curl.unsetopt(pycurl.CAINFO)
        else:
            curl.setopt(pycurl.CAINFO, self._ca_file)
            curl.unsetopt(pycurl.CAPATH)
        curl.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.PROXY, "")  # unset would mean the environment's
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        # As contents, not file names: curl then never reuses a connection of an older certificate.
        if certificate:
            curl.setopt(pycurl.SSLCERT_BLOB, certificate)
            curl.setopt(pycurl.SSLKEY_BLOB, key)
        curl.setopt(pycurl.SSL_SESSIONID_CACHE, 0)  # nor resumes its session
        curl.setopt(pycurl.MAXAGE_CONN, MAX_IDLE_SECONDS)
        curl.setopt(pycurl.NOSIGNAL, 1)


class _Pool:
    """The connections to one host for one purpose."""

    def __init__(self, size: int, max_body: int) -> None:
        self.slots = asyncio.Semaphore(size)
        self._client = CurlAsyncHTTPClient(
            force_instance=True, max_clients=size, max_body_size=max_body
        )
        self._busy = 0
        self._closing = False

    async def fetch(self, request: HTTPRequest, host: str, redaction: Redaction) -> Response:
        transfer = self._client.fetch(request, raise_error=False)
        self._busy += 1
        transfer.add_done_callback(self._done)
        try:
            async with asyncio.timeout(float(request.request_timeout or 0) + GRACE_SECONDS):
                answer = await asyncio.shield(transfer)
        except CurlError as error:
            reason = redaction.text(error.message or f"curl error {error.errno}")
            timed_out = error.errno == pycurl.E_OPERATION_TIMEDOUT
            connecting = timed_out and reason.startswith(_CONNECTING)
            sent = error.errno not in _BEFORE_SENDING and not connecting
            raise Unreachable(f"{host}: {reason}", sent=sent) from None  # curl quotes the answer
        except TimeoutError:
            raise Unreachable(f"{host}: no answer in time") from None
        headers = HTTPHeaders()
        for name, value in answer.headers.get_all():
            headers.add(name, redaction.text(value))
        body = redaction.content(answer.body or b"")
        return Response(status=answer.code, headers=headers, body=body)

    def close(self) -> None:
        self._closing = True
        if not self._busy:
            self._client.close()

    def _done(self, transfer: asyncio.Future[HTTPResponse]) -> None:
        """Curl has ended a request, which may be after its caller gave it up."""
        self._busy -= 1
        transfer.exception()
        if self._closing and not self._busy:
            self._client.close()


class _NoCredential:
    version = 0
    broken = None

    def refresh(self) -> tuple[bytes, bytes]:
        return b"", b""


class _CredentialFiles:
    """The certificate and key of two files as PEM, read again when they change."""

    def __init__(self, credential: config.CredentialFiles) -> None:
        self._paths = credential.certificate, credential.key
        self._files = WatchedFiles(_read_pair, *self._paths)
        self._logged = ""

    @property
    def version(self) -> int:
        return self._files.version

    @property
    def broken(self) -> str | None:
        self._files.refresh()
        error, (certificate, key) = self._files.broken, self._paths
        return None if error is None else f"{certificate}, {key}: {reason(error)}"

    def refresh(self) -> tuple[bytes, bytes]:
        """The newest usable pair; a half-renewed one is passed over while there is an older."""
        self._files.refresh()
        problem = self._files.broken
        if problem is not None and not self.version:
            raise Unavailable(f"deliv's own credential can't be used: {problem}") from problem
        if problem is not None and str(problem) != self._logged:  # asked with every request
            self._logged = str(problem)
            log.warning("new credential not usable, keeping the old one", reason=str(problem))
        return self._files.value


def _read_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """OSError, or ValueError when it is no pair."""
    pair = certificate.read_bytes(), key.read_bytes()
    try:
        parsed = x509.load_pem_x509_certificates(pair[0])[0]
        private = load_pem_private_key(pair[1], password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if private.public_key() != parsed.public_key():
        raise ValueError(f"{key} is not the key of {certificate}")
    return pair

"""Delegating deliv's identity to FTS: a proxy signed by the official client, sent by our transport.

The client's code blocks: it runs in a worker thread, its requests cross over to the event loop.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fts3.rest.client import Context, Delegator
from M2Crypto import ASN1, EVP, X509

from deliv.errors import DelivError, Refused, Unavailable
from deliv.gateways.fts.transport import FtsTransport, refusal

log = structlog.get_logger()

BEHIND = timedelta(hours=2)  # so far may the clocks of FTS and its sites be behind deliv's
CALLS = 8  # more than one delegation takes
NO_TIME = timedelta(0)


class FtsDelegation:
    """`lifetime` is asked for, renewed when less than `renew_below` is left; both in seconds."""

    def __init__(
        self,
        transport: FtsTransport,
        *,
        lifetime: float,
        renew_below: float,
        timeout: float,
    ) -> None:
        self._transport = transport
        self._lifetime = timedelta(seconds=lifetime)
        self._renew_below = timedelta(seconds=renew_below)
        self._patience = timeout * CALLS
        self._lock = asyncio.Lock()
        self._renew_at: datetime | None = None
        self._version = 0
        self.until: datetime | None = None
        self.generation = 0

    async def ensure(self) -> None:
        """See that FTS holds a delegation with enough life left; mostly without asking it.

        Unreachable, Unavailable (deliv's credential is unusable) or Refused when it can't be.
        """
        if self._current():
            return
        async with self._lock:
            if not self._current():
                await self._delegate(force=False)

    async def renew(self, generation: int) -> None:
        """Delegate again, unless another call did since `generation` was read."""
        async with self._lock:
            if self.generation == generation:
                await self._delegate(force=True)

    def _current(self) -> bool:
        if self._renew_at is None or self._version != self._transport.credential_version:
            return False
        return datetime.now(UTC) < self._renew_at

    async def _delegate(self, *, force: bool) -> None:
        version = self._transport.credential_version
        bridge = _Bridge(self._transport, asyncio.get_running_loop(), self._patience)
        self.until = await asyncio.to_thread(self._blocking, bridge, force)
        now = datetime.now(UTC)
        life = self.until - now
        # Of a certificate shorter than `renew_below` half has to pass, else every call delegated.
        long = life > self._renew_below
        self._renew_at = self.until - self._renew_below if long else now + life / 2
        self._version = version
        self.generation += 1
        log.info(
            "FTS may act for deliv", endpoint=self._transport.name, until=self.until.isoformat()
        )

    def _blocking(self, bridge: _Bridge, force: bool) -> datetime:
        try:
            # What counts is the certificate that ends first: the client overlooks a short last one.
            chain = x509.load_pem_x509_certificates(bridge.transport.credential[0])
            ends = min(certificate.not_valid_after_utc for certificate in chain)
            left = ends - datetime.now(UTC)
            if left <= NO_TIME:
                raise Unavailable(f"deliv's own certificate expired on {ends.isoformat()}")
            delegator = _Delegator(_FtsContext(bridge))
            delegator.delegate(
                lifetime=min(self._lifetime, left),
                force=force,
                delegate_when_lifetime_lt=self._renew_below,
            )
            return delegator.termination()
        except DelivError:
            raise
        except Exception as error:
            # The client turns every error into one of its own, raised while it handled ours.
            cause = error.__context__
            if isinstance(cause, DelivError):
                raise cause from error
            raise Unavailable(f"deliv's identity can't be delegated: {error}") from error


class _Bridge:
    """Stands in for the client's request class: hands its calls to the event loop."""

    def __init__(
        self, transport: FtsTransport, loop: asyncio.AbstractEventLoop, patience: float
    ) -> None:
        self.transport = transport
        self._loop = loop
        self._patience = patience

    def __call__(self, *_args: object, **_options: object) -> _Bridge:
        """The client builds its requester with files and options that ours has already."""
        return self

    def method(
        self, method: str, url: str, body: str | bytes | None = None, headers: object = None
    ) -> str:
        path = "/" + url.removeprefix(self.transport.url).lstrip("/")
        content = body.encode() if isinstance(body, str) else body
        kind = None if body is None else "text/plain"
        call = self.transport.call(method, path, content, kind)
        answer = asyncio.run_coroutine_threadsafe(call, self._loop).result(self._patience)
        if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
            raise refusal(self.transport.name, answer)
        return answer.body.decode()


class _FtsContext(Context):  # type: ignore[misc]  # untyped
    """The client's context, with the credential that our connections use rather than files."""

    def __init__(self, bridge: _Bridge) -> None:
        self._certificates, self._key = bridge.transport.credential
        super().__init__(bridge.transport.url, request_class=bridge)

    def _set_x509(self, _ucert: str | None, _ukey: str | None) -> None:
        self.ucert = self.ukey = None
        parsed = x509.load_pem_x509_certificates(self._certificates)
        self.x509_list = [X509.load_cert_string(one.public_bytes(Encoding.PEM)) for one in parsed]
        self.x509 = self.x509_list[0]
        self.evp_key = EVP.load_key_string(self._key)


class _Delegator(Delegator):  # type: ignore[misc]  # untyped
    def termination(self) -> datetime:
        """When the delegation that FTS holds now ends."""
        document = self.get_info()
        if not document:
            raise Refused("FTS took the delegation and has none", code=HTTPStatus.NOT_FOUND)
        return _utc(document["termination_time"])

    def _sign_request(self, *request: object) -> X509.X509:
        """As the client's own, which is valid from this very second on, but valid earlier."""
        proxy: X509.X509 = super()._sign_request(*request)
        chain_starts = [one.get_not_before().get_datetime() for one in self.context.x509_list]
        starts = ASN1.ASN1_TIME()
        starts.set_datetime(max(datetime.now(UTC) - BEHIND, *chain_starts))
        proxy.set_not_before(starts)
        proxy.sign(self.context.evp_key, "sha256")
        return proxy

    def _get_remaining_life(self, delegation_id: str) -> timedelta | None:
        """As the client's own, on an aware clock: the naive one is deprecated."""
        document: dict[str, Any] | None = self.get_info(delegation_id)
        if not document:
            return None
        return _utc(document["termination_time"]) - datetime.now(UTC)


def _utc(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)

"""What every call has in common: who calls, what it may carry, how it fails."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from asyncio import Future
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil
from typing import Any, ClassVar

import structlog
from tornado.web import HTTPError, RequestHandler, stream_request_body

from deliv.config import Rest
from deliv.db.database import CALLER
from deliv.delivery.delegation import CredentialDelegation
from deliv.delivery.ending.cancellation import Cancellation
from deliv.delivery.endpoints import EndpointResolver
from deliv.delivery.stage import Staging
from deliv.delivery.submit import Submissions
from deliv.errors import CredentialRefused, DelivError, Forbidden, InvalidRequest, Unavailable
from deliv.gateways.issuer import Issuer
from deliv.http.call import headers, origin, parameters
from deliv.http.connections.in_flight import InFlight
from deliv.identity.policy import Decision, LivePolicy
from deliv.identity.tls import ConnectionIdentities
from deliv.identity.x509.chain import Identity
from deliv.ops import audit, metrics
from deliv.ops.audit import AuditLog
from deliv.ops.token_buckets import TokenBuckets

log = structlog.get_logger()

DRAINED_BODY = 8 * 2**20  # a body over the limit is read up to this, so that the 413 arrives
UNLIMITED = 2**62
LONGEST_URI = 8000  # RFC 9110, section 4.1, asks for no less
METHODS = ("GET", "POST", "PUT", "DELETE")
# Tornado answers a method that it does not know before the body has come, and hangs up.
STAND_IN = "POST"
PENALTY = 1.0  # seconds until somebody hears that they asked too often


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the calls need."""

    submissions: Submissions
    staging: Staging
    cancelling: Cancellation
    delegating: CredentialDelegation | None
    copiers: EndpointResolver
    policy: LivePolicy
    identities: ConnectionIdentities
    audit: AuditLog
    stager_role: bool  # the stager shows who it is by its certificate
    issuer: Issuer | None  # ... by a token of this issuer's
    rest: Rest
    rate: TokenBuckets  # of each caller's requests
    trouble: Callable[[str], str | None]  # why a dependency is out; None: it is not
    in_hand: InFlight = field(default_factory=InFlight)


class TooLarge(DelivError):
    status = 413


class UriTooLong(DelivError):
    status = 414


class HeadTooLarge(DelivError):
    status = 431


class Throttled(DelivError):
    """`retry_after` in seconds."""

    status = 429

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@stream_request_body
class Call(RequestHandler):
    """One REST call. Subclasses parse, authorise, make one delivery call and write."""

    error_fields: ClassVar[dict[str, Any]] = {}
    accepts: ClassVar[parameters.Accepts]
    identity: Identity

    def initialize(self, services: Services) -> None:
        self.services = services
        self.method = str(self.request.method)
        if self.method not in self.SUPPORTED_METHODS:
            self.request.method = STAND_IN
        self._noted: dict[str, Any] = {}
        self._audited = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._started = time.monotonic()
        services.in_hand.enter(self, self._connection.stream)

    def set_default_headers(self) -> None:
        if not hasattr(self, "request_id"):
            self.request_id = uuid.uuid4().hex
        self.clear_header("Server")
        self.set_header("X-Request-Id", self.request_id)
        self.set_header("Content-Type", headers.JSON)
        for name, value in headers.SECURITY.items():
            self.set_header(name, value)

    async def prepare(self) -> None:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=self.request_id)
        self._connection.set_max_body_size(UNLIMITED)  # `data_received` sees to it
        try:
            self.identity = await self._identify()
            self._check_head()
            self._check_method()
            origin.check(self.method, self.request.headers, self.services.rest.public_url)
        except (DelivError, HTTPError) as error:
            self._refuse(error)
        self._refuse_unsent_body()

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= self.services.rest.body_limit:
            self._chunks.append(chunk)
        elif self._size > DRAINED_BODY:
            error = self._too_large()
            self.send_error(error.status, exc_info=(type(error), error, None))

    def query_parameters(self) -> dict[str, str]:
        return self._accepted(parameters.from_query(self.request.query))

    def body_parameters(self) -> dict[str, str]:
        if self.request.query:
            raise InvalidRequest("the parameters of this call belong in its body, not in the URL")
        content_type = self.request.headers.get("Content-Type", "")
        return self._accepted(parameters.from_body(content_type, self.body(), self.accepts.plain))

    def body(self) -> bytes:
        """The request's body; TooLarge."""
        self._count(self._size)
        return b"".join(self._chunks)

    def authorise(self, action: str, **context: str) -> Decision:
        """The policy's yes; Forbidden, with its reason, when it says no."""
        decision = self.services.policy.decide(self.identity, action, **context)
        about = {name: context[name] for name in audit.CONTEXT if name in context}
        self.note(action=action, rule=decision.rule, **about)
        if not decision.allowed:
            reason = self._explained(decision.reason)
            log.warning("refused", action=action, reason=reason)
            raise Forbidden(reason)
        return decision

    def _explained(self, reason: str) -> str:
        """Why it is refused, and why attributes that might have helped do not count."""
        refused = self.identity.attributes.refused
        return f"{reason}; your VOMS attributes do not count: {refused}" if refused else reason

    def note(self, **facts: Any) -> None:
        """What the request's audit line is to say, by the fields of audit.AuditEntry."""
        self._noted.update(facts)

    def flush(self, include_footers: bool = False) -> Future[None]:
        """No answer goes out before it is on record."""
        if not self._audited:
            self._audited = True
            self._audit()
        return super().flush(include_footers)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        if isinstance(error, DelivError):
            status_code = error.status
            self.set_status(status_code)
        if isinstance(error, Unavailable | Throttled):
            self.set_header("Retry-After", str(error.retry_after))
        if isinstance(error, DelivError) and error.challenge:
            self.set_header("WWW-Authenticate", error.challenge)
        if status_code == 405:
            self.set_header("Allow", self._allowed())
        message = self._message(status_code, error)
        self.note(reason=str(error) if isinstance(error, DelivError) else message)
        self.finish(self.error_document(status_code, message))

    def error_document(self, status: int, message: str) -> dict[str, Any]:
        return {**self.error_fields, "error": True, "msg": message}

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, DelivError):
            log.info("answered with an error", status=value.status, reason=str(value))
        elif not isinstance(value, HTTPError):
            log.error("unexpected error", exc_info=(typ, value, tb))

    def on_connection_close(self) -> None:
        super().on_connection_close()  # ends the wait for the rest of a body
        self.services.in_hand.leave(self)

    def on_finish(self) -> None:
        self.services.in_hand.leave(self)
        call, seconds = type(self).__name__, time.monotonic() - self._started
        metrics.REQUESTS.labels(call=call, code=self.get_status()).inc()
        metrics.REQUEST_SECONDS.labels(call=call).observe(seconds)
        log.info("request", method=self.method, path=self.request.path,
                 status=self.get_status(), seconds=round(seconds, 4))  # fmt: skip

    @property
    def _connection(self) -> Any:
        """The server's connection; Tornado declares the little that all kinds have."""
        return self.request.connection

    async def _identify(self) -> Identity:
        try:
            found = self.services.identities.of(self._connection.stream)
        except CredentialRefused as error:
            log.warning("credential refused", reason=str(error))
            await self._throttle(self._connection.context.address[0])
            raise
        structlog.contextvars.bind_contextvars(dn=found.dn)
        CALLER.set(found.dn)  # in this request's own task
        subject = found.subject if found.is_proxy else None
        self.note(dn=found.dn, subject=subject, limited=found.limited)
        await self._throttle(found.dn)
        return found

    async def _throttle(self, caller: str) -> None:
        """Throttled when the caller asks too often or too much at once.

        They wait for this answer a while: so one that does not heed it costs others little.
        """
        rest = self.services.rest
        wait = self.services.rate.take(caller)
        at_once = self.services.in_hand.claim(self, caller)
        if not wait and at_once <= rest.requests_at_once:
            return
        metrics.THROTTLED.inc()
        self.services.in_hand.leave(self)  # nobody waits for it, and it may give way
        await asyncio.sleep(PENALTY)
        what = f"{rest.requests_per_second:g} requests a second" if wait else ""
        what = what or f"{rest.requests_at_once} requests at once"
        raise Throttled(f"more than {what} from you: wait", ceil(max(wait, PENALTY)))

    def _accepted(self, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
        values = self.accepts.check(pairs)
        self.note(**{name: values[name] for name in audit.PARAMETERS if name in values})
        return values

    def _audit(self) -> None:
        status = self.get_status()
        entry = audit.AuditEntry(
            event=audit.AuditEvent.REQUEST,
            outcome=audit.outcome(status),
            peer=audit.address(*self._connection.context.address[:2]),
            call=f"{self.method} {self.request.path}",
            status=status,
            request_id=self.request_id,
            **self._noted,
        )
        self.services.audit.write(entry)

    def _refuse_unsent_body(self) -> None:
        """A client that asks first hears at once that its body is too large.

        From one that is sending already the body is read first (and not kept): answering in
        between closes the connection under its hands, and the answer is lost.
        """
        length = self.request.headers.get("Content-Length", "")
        size = int(length) if re.fullmatch("[0-9]{1,18}", length) else 0
        if "Expect" in self.request.headers or size > DRAINED_BODY:
            self._count(size)

    def _refuse(self, error: Exception) -> None:
        """Answer with this error once the body has been read, for the same reason."""

        async def refuse(*parts_of_path: str) -> None:
            raise error

        setattr(self, str(self.request.method).lower(), refuse)

    def _count(self, size: int) -> None:
        if size > self.services.rest.body_limit:
            raise self._too_large()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self.services.rest.body_limit} bytes")

    def _check_head(self) -> None:
        if len(self.request.uri or "") > LONGEST_URI:
            raise UriTooLong(f"the URL is longer than {LONGEST_URI} characters")
        limit = self.services.rest.header_limit
        if headers.size(self.request.headers.get_all()) > limit:
            raise HeadTooLarge(f"the header is larger than {limit} bytes")

    def _check_method(self) -> None:
        if self.method not in self._allowed().split(", "):
            raise HTTPError(405)

    def _allowed(self) -> str:
        known = {method: getattr(RequestHandler, method.lower()) for method in METHODS}
        own = (m for m, base in known.items() if getattr(type(self), m.lower()) is not base)
        return ", ".join(own)

    def _message(self, status: int, error: BaseException | None) -> str:
        if isinstance(error, DelivError) and error.status != 500:
            return error.public or str(error)
        if status == 404:
            return f"there is no {self.request.path[:200]!r} here"
        if status == 405:
            return f"{self.method[:64]} is not allowed here, only {self._allowed()}"
        if status == 500:
            return f"an internal error; report the request id {self.request_id} to the operators"
        return self._reason or "error"


class UnknownPath(Call):
    def _check_method(self) -> None:
        raise HTTPError(404)

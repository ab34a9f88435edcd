"""What every call has in common: who calls, what it may carry, how it fails."""

from __future__ import annotations

import asyncio
import time
import uuid
from asyncio import Future
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import structlog
from tornado.web import HTTPError, RequestHandler, stream_request_body

from deliv import audit, metrics
from deliv.audit import AuditLog
from deliv.delivery.cancelling import Cancelling
from deliv.delivery.staging import Staging
from deliv.delivery.submissions import Submissions
from deliv.errors import CredentialRefused, DelivError, Forbidden, InvalidRequest, Unavailable
from deliv.http import parameters
from deliv.identity.chain import Identity
from deliv.identity.policy import Decision, LivePolicy
from deliv.identity.tls import ConnectionIdentities
from deliv.issuer import Issuer

log = structlog.get_logger()


class InHand:
    """Counts the requests under way, so that a stop can wait for their answers."""

    def __init__(self) -> None:
        self._calls: set[int] = set()
        self._none = asyncio.Event()
        self._none.set()

    def enter(self, call: object) -> None:
        self._calls.add(id(call))
        self._none.clear()
        metrics.IN_HAND.set(len(self._calls))

    def leave(self, call: object) -> None:
        self._calls.discard(id(call))
        metrics.IN_HAND.set(len(self._calls))
        if not self._calls:
            self._none.set()

    async def finished(self) -> None:
        await self._none.wait()


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the calls need."""

    submissions: Submissions
    staging: Staging
    cancelling: Cancelling
    policy: LivePolicy
    identities: ConnectionIdentities
    audit: AuditLog
    stager_role: bool  # the stager shows who it is by its certificate
    issuer: Issuer | None  # ... by a token of this issuer's
    body_limit: int
    in_hand: InHand = field(default_factory=InHand)


class TooLarge(DelivError):
    status = 413


@stream_request_body
class Call(RequestHandler):
    """One REST call. Subclasses parse, authorise, make one delivery call and write."""

    error_fields: ClassVar[dict[str, Any]] = {}
    accepts: ClassVar[parameters.Accepts]
    identity: Identity

    def initialize(self, services: Services) -> None:
        self.services = services
        self._noted: dict[str, Any] = {}
        self._audited = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._started = time.monotonic()
        services.in_hand.enter(self)

    def set_default_headers(self) -> None:
        if not hasattr(self, "request_id"):
            self.request_id = uuid.uuid4().hex
        self.clear_header("Server")
        self.set_header("X-Request-Id", self.request_id)
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    def prepare(self) -> None:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=self.request_id)
        self.identity = self._identify()
        self._check_method()
        self._refuse_unsent_body()
        self._size = 0

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= self.services.body_limit:
            self._chunks.append(chunk)

    def query_parameters(self) -> dict[str, str]:
        return self._accepted(parameters.from_query(self.request.query))

    def body_parameters(self) -> dict[str, str]:
        if self.request.query:
            raise InvalidRequest("the parameters of this call belong in its body, not in the URL")
        self._count(self._size)
        content_type = self.request.headers.get("Content-Type", "")
        return self._accepted(parameters.from_body(content_type, b"".join(self._chunks)))

    def authorise(self, action: str, **context: str) -> Decision:
        """The policy's yes; Forbidden, with its reason, when it says no."""
        decision = self.services.policy.decide(self.identity, action, **context)
        about = {name: context[name] for name in audit.CONTEXT if name in context}
        self.note(action=action, rule=decision.rule, **about)
        if not decision.allowed:
            log.warning("refused", action=action, reason=decision.reason)
            raise Forbidden(decision.reason)
        return decision

    def note(self, **facts: Any) -> None:
        """What the request's audit line is to say, by the fields of audit.Entry."""
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
        if isinstance(error, Unavailable):
            self.set_header("Retry-After", str(error.retry_after))
        if isinstance(error, DelivError) and error.challenge:
            self.set_header("WWW-Authenticate", error.challenge)
        if status_code == 405:
            self.set_header("Allow", self._allowed())
        message = self._message(status_code, error)
        self.note(reason=str(error) if isinstance(error, DelivError) else message)
        self.finish({**self.error_fields, "error": True, "msg": message})

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
        log.info("request", method=self.request.method, path=self.request.path,
                 status=self.get_status(), seconds=round(seconds, 4))  # fmt: skip

    @property
    def _connection(self) -> Any:
        """The server's connection; Tornado declares the little that all kinds have."""
        return self.request.connection

    def _identify(self) -> Identity:
        try:
            found = self.services.identities.of(self._connection.stream)
        except CredentialRefused as error:
            log.warning("credential refused", reason=str(error))
            raise
        structlog.contextvars.bind_contextvars(dn=found.dn)
        subject = found.subject if found.is_proxy else None
        self.note(dn=found.dn, subject=subject, limited=found.limited)
        return found

    def _accepted(self, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
        values = self.accepts.check(pairs)
        self.note(**{name: values[name] for name in audit.PARAMETERS if name in values})
        return values

    def _audit(self) -> None:
        status = self.get_status()
        entry = audit.Entry(
            event=audit.Event.REQUEST,
            outcome=audit.outcome(status),
            peer=audit.address(*self._connection.context.address[:2]),
            call=f"{self.request.method} {self.request.path}",
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
        if "Expect" in self.request.headers:
            self._count(int(self.request.headers.get("Content-Length") or 0))

    def _count(self, size: int) -> None:
        if size > self.services.body_limit:
            raise TooLarge(f"the body is larger than {self.services.body_limit} bytes")

    def _check_method(self) -> None:
        if self.request.method not in self._allowed().split(", "):
            raise HTTPError(405)

    def _allowed(self) -> str:
        own = {"GET": RequestHandler.get, "POST": RequestHandler.post}
        return ", ".join(m for m, base in own.items() if getattr(type(self), m.lower()) is not base)

    def _message(self, status: int, error: BaseException | None) -> str:
        if isinstance(error, DelivError) and error.status != 500:
            return error.public or str(error)
        if status == 404:
            return f"there is no {self.request.path[:200]!r} here"
        if status == 405:
            return f"{self.request.method} is not allowed here, only {self._allowed()}"
        if status == 500:
            return f"an internal error; report the request id {self.request_id} to the operators"
        return self._reason or "error"


class UnknownPath(Call):
    def _check_method(self) -> None:
        raise HTTPError(404)

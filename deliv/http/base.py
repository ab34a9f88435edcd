"""What every call has in common: who calls, what it may carry, how it fails."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, ClassVar

import structlog
from tornado.web import HTTPError, RequestHandler, stream_request_body

from deliv import metrics
from deliv.delivery.cancelling import Cancelling
from deliv.delivery.staging import Staging
from deliv.delivery.submissions import Submissions
from deliv.errors import CredentialRefused, DelivError, Forbidden, InvalidRequest, Unavailable
from deliv.http import parameters
from deliv.identity.chain import Identity
from deliv.identity.policy import Decision, LivePolicy
from deliv.identity.tls import ConnectionIdentities

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
        self._check_method()
        self.identity = self._identify()
        structlog.contextvars.bind_contextvars(dn=self.identity.dn)
        self._refuse_unsent_body()
        self._size = 0

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= self.services.body_limit:
            self._chunks.append(chunk)

    def query_parameters(self) -> dict[str, str]:
        return self.accepts.check(parameters.from_query(self.request.query))

    def body_parameters(self) -> dict[str, str]:
        if self.request.query:
            raise InvalidRequest("the parameters of this call belong in its body, not in the URL")
        self._count(self._size)
        content_type = self.request.headers.get("Content-Type", "")
        return self.accepts.check(parameters.from_body(content_type, b"".join(self._chunks)))

    def authorise(self, action: str, **context: str) -> Decision:
        """The policy's yes; Forbidden, with its reason, when it says no."""
        decision = self.services.policy.decide(self.identity, action, **context)
        if not decision.allowed:
            log.warning("refused", action=action, reason=decision.reason)
            raise Forbidden(decision.reason)
        return decision

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        if isinstance(error, DelivError):
            status_code = error.status
            self.set_status(status_code)
        if isinstance(error, Unavailable):
            self.set_header("Retry-After", str(error.retry_after))
        if status_code == 405:
            self.set_header("Allow", self._allowed())
        self.finish({**self.error_fields, "error": True, "msg": self._message(status_code, error)})

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

    def _identify(self) -> Identity:
        try:
            return self.services.identities.of(self.request.connection.stream)  # type: ignore[union-attr]
        except CredentialRefused as error:
            log.warning("credential refused", reason=str(error))
            raise

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
    def prepare(self) -> None:
        raise HTTPError(404)

"""What every call has in common: who calls, what they may do, what is logged and counted."""

from __future__ import annotations

import time
import uuid
from asyncio import Future
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
import structlog
from tornado.web import HTTPError, stream_request_body

from deliv.db.database import CALLER
from deliv.errors import CredentialRefused, DelivError, Forbidden, InvalidRequest
from deliv.http.call import headers, origin, parameters
from deliv.http.call.answers import Answer
from deliv.http.call.audit_line import AuditLine
from deliv.http.call.body import Body
from deliv.http.call.errors import ErrorAnswers
from deliv.http.call.parameters import Parameters
from deliv.http.call.throttling import throttle
from deliv.http.services import Services
from deliv.identity.policy import Decision
from deliv.identity.x509.chain import Identity
from deliv.ops import audit, metrics

log = structlog.get_logger()

UNLIMITED = 2**62
P = TypeVar("P", bound=Parameters)


@stream_request_body
class Call(ErrorAnswers, Generic[P]):
    """One REST call. Subclasses parse, authorise, make one delivery call and write.

    `path` is a regular expression, `accepts` the parameters, `accepts_in_json` more that come only
    so. A body may have `body_limit` bytes, where that is more than the configuration says.
    """

    path: str
    accepts: type[P]
    accepts_in_json: ClassVar[type[Parameters] | None] = None
    body_limit: int = 0
    identity: Identity

    def initialize(self, services: Services) -> None:
        self.services = services
        self.method = str(self.request.method)
        if self.method not in self.SUPPORTED_METHODS:
            # Tornado would answer it before the body has arrived, and close the connection.
            self.request.method = "POST"
        self.audit_line = AuditLine(services.audit)
        self._body = Body(max(self.body_limit, services.rest.body_limit))
        self._started = time.monotonic()
        services.in_flight.add(self, self._connection.stream)

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
        self._connection.set_max_body_size(UNLIMITED)  # `Body` has the limit
        try:
            self.identity = await self._identify()
            headers.check_size(self.request, self.services.rest.header_limit)
            self.check_method()
            origin.check(self.method, self.request.headers, self.services.rest.public_url)
            await self.before_body()
        except (DelivError, HTTPError) as error:
            refusal = error
            self._body.discard()

            async def refuse(*parts_of_path: str) -> None:
                raise refusal

            # The answer waits until the body has been read; `Body` says why.
            setattr(self, str(self.request.method).lower(), refuse)
        self._body.announce(self.request.headers)

    def data_received(self, chunk: bytes) -> None:
        try:
            self._body.add(chunk)
        except DelivError as error:
            self.send_error(error.status, exc_info=(type(error), error, None))

    async def before_body(self) -> None:
        """Called before the body is read."""

    def check_method(self) -> None:
        if self.method not in self.allowed_methods():
            raise HTTPError(405)

    def query_parameters(self) -> P:
        return self._decode(parameters.from_query(self.request.query, self.accepts))

    def no_query(self) -> None:
        if self.request.query:
            raise InvalidRequest("the parameters of this call belong in its body, not in the URL")

    def body_parameters(self) -> P:
        self.no_query()
        content_type = self.request.headers.get("Content-Type", "")
        return self._decode(parameters.from_body(content_type, self.body(), self.accepts))

    def body(self) -> bytes:
        """The request's body; TooLarge."""
        return self._body.whole()

    def authorise(self, action: str, **context: str) -> Decision:
        """The policy's decision when it allows the action; else Forbidden, with its reason."""
        decision = self.services.policy.decide(self.identity, action, **context)
        about = {name: context[name] for name in audit.CONTEXT if name in context}
        self.audit_line.note(action=action, rule=decision.rule, **about)
        if not decision.allowed:
            reason = decision.reason
            if refused := self.identity.attributes.refused:
                reason = f"{reason}; your VOMS attributes do not count: {refused}"
            log.warning("refused", action=action, reason=reason)
            raise Forbidden(reason)
        return decision

    def answer(self, document: Answer, status: int = 200) -> None:
        self.set_status(status)
        self.write(msgspec.to_builtins(document))

    def flush(self, include_footers: bool = False) -> Future[None]:
        """The audit line is written before any byte of the answer is sent."""
        self.audit_line.note(call=f"{self.method} {self.request.path}", request_id=self.request_id)
        client = audit.address(*self._connection.context.address[:2])
        self.audit_line.write(self.get_status(), client)
        return super().flush(include_footers)

    def on_connection_close(self) -> None:
        super().on_connection_close()  # ends the wait for the rest of a body
        self.services.in_flight.remove(self)

    def on_finish(self) -> None:
        self.services.in_flight.remove(self)
        call, seconds = type(self).__name__, time.monotonic() - self._started
        metrics.REQUESTS.labels(call=call, code=self.get_status()).inc()
        metrics.REQUEST_SECONDS.labels(call=call).observe(seconds)
        log.info("request", method=self.method, path=self.request.path,
                 status=self.get_status(), seconds=round(seconds, 4))  # fmt: skip

    @property
    def _connection(self) -> Any:
        """The server's connection; Tornado declares only what all kinds have."""
        return self.request.connection

    async def _identify(self) -> Identity:
        try:
            found = self.services.identities.of(self._connection.stream)
        except CredentialRefused as error:
            log.warning("credential refused", reason=str(error))
            subject = self.services.identities.unverified_subject(self._connection.stream)
            self.audit_line.note(unverified_subject=subject)
            await throttle(self.services, self, self._connection.context.address[0])
            raise
        structlog.contextvars.bind_contextvars(dn=found.dn)
        CALLER.set(found.dn)  # in this request's own task
        subject = found.subject if found.is_proxy else None
        self.audit_line.note(dn=found.dn, subject=subject, limited=found.limited)
        await throttle(self.services, self, found.dn)
        if denied := self.services.policy.denial(found.dn, found.attributes.fqans):
            self.audit_line.note(rule=denied.rule)
            log.warning("denied", reason=denied.reason)
            raise Forbidden(denied.reason)
        return found

    def _decode(self, values: parameters.Values) -> P:
        self.audit_line.note(**{name: values[name] for name in audit.PARAMETERS if name in values})
        return parameters.decode(self.accepts, values)


class UnknownPath(Call[Parameters]):
    def check_method(self) -> None:
        raise HTTPError(404)

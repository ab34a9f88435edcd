"""How a call fails: the errors that belong to HTTP alone, and the answer to every error."""

from __future__ import annotations

from typing import Any, ClassVar

import structlog
from tornado.web import HTTPError, RequestHandler

from deliv.errors import DelivError, Unavailable
from deliv.http.call.audit_line import AuditLine

log = structlog.get_logger()

METHODS = ("GET", "POST", "PUT", "DELETE")


class TooLarge(DelivError):
    status = 413


class UriTooLong(DelivError):
    status = 414


class UnsupportedMediaType(DelivError):
    status = 415


class Throttled(DelivError):
    """`retry_after` in seconds."""

    status = 429

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HeadTooLarge(DelivError):
    status = 431


class ErrorAnswers(RequestHandler):
    """Answers errors in JSON: what is wrong and what is allowed."""

    error_fields: ClassVar[dict[str, Any]] = {}  # that this call's errors have besides
    audit_line: AuditLine
    method: str
    request_id: str

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
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        message = self._message(status_code, error)
        self.audit_line.note(reason=str(error) if isinstance(error, DelivError) else message)
        self.finish(self.error_document(status_code, message))

    def error_document(self, status: int, message: str) -> dict[str, Any]:
        return {**self.error_fields, "error": True, "msg": message}

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, DelivError):
            log.info("answered with an error", status=value.status, reason=str(value))
        elif not isinstance(value, HTTPError):
            log.error("unexpected error", exc_info=(typ, value, tb))

    @classmethod
    def allowed_methods(cls) -> list[str]:
        """The methods that the call implements."""
        known = {method: getattr(RequestHandler, method.lower()) for method in METHODS}
        return [m for m, base in known.items() if getattr(cls, m.lower()) is not base]

    def _message(self, status: int, error: BaseException | None) -> str:
        if isinstance(error, DelivError) and error.status != 500:
            return error.public or str(error)
        if status == 404:
            return f"there is no {self.request.path[:200]!r} here"
        if status == 405:
            allowed = ", ".join(self.allowed_methods())
            return f"{self.method[:64]} is not allowed here, only {allowed}"
        if status == 500:
            return f"an internal error; report the request id {self.request_id} to the operators"
        return self._reason or "error"

"""The refusals that callers get to see, in FTS's words."""

from __future__ import annotations

from http import HTTPStatus

AUTHENTICATION_TIMEOUT = 419


def status_line(code: int) -> str:
    """The code with its phrase, as FTS writes it into its answers: "404 Not Found"."""
    if code == AUTHENTICATION_TIMEOUT:
        return "419 Authentication Timeout"
    return f"{code} {HTTPStatus(code).phrase}"


class RestError(Exception):
    """An answer other than success: an HTTP status and FTS's message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> str:
        return status_line(self.code)


class BadRequest(RestError):
    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class Forbidden(RestError):
    def __init__(self, message: str) -> None:
        super().__init__(403, message)


class NotFound(RestError):
    def __init__(self, message: str) -> None:
        super().__init__(404, message)


class Conflict(RestError):
    def __init__(self, message: str) -> None:
        super().__init__(409, message)


class DelegationNeeded(RestError):
    def __init__(self, message: str) -> None:
        super().__init__(AUTHENTICATION_TIMEOUT, message)

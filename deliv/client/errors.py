"""What can go wrong for a caller, in one tree. Every message says what to do.

ClientError
├── SetupError              URL, CA directory or credential is not given: nothing was sent
│   └── UnusableFile        a list of products that can't be read; the message names the line
├── CredentialUnusable      a certificate or key that can't be read or has expired
├── CredentialRefused       the server ended TLS because of our certificate
├── ServerNotTrusted        the server's certificate is not good for its name or our CAs
├── Unreachable             no connection, or one that broke before the answer
├── BadAnswer               an answer that is not deliv's
├── StillRunning            the time to wait is over, the job goes on
└── Answered                deliv answered with an error; `status` is the HTTP status
    ├── Rejected            the request is wrong: 400, 413, 415, 422 and the like
    ├── PermissionRefused   this identity may not do that: 403
    ├── NotFound            no such job: 404
    ├── Conflict            too late, the job has ended: 409
    └── Unavailable         deliv can't answer now or has a fault: 429, 5xx
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of all. `kind` is a word for scripts; `exit_code` is what the commands end with."""

    kind = "error"
    exit_code = 2


class SetupError(ClientError):
    kind = "setup"


class UnusableFile(SetupError):
    kind = "file"


class CredentialUnusable(ClientError):
    kind = "credential"
    exit_code = 3


class CredentialRefused(ClientError):
    kind = "credential"
    exit_code = 3


class ServerNotTrusted(ClientError):
    kind = "trust"
    exit_code = 3


class Unreachable(ClientError):
    kind = "unreachable"
    exit_code = 4


class BadAnswer(ClientError):
    kind = "answer"
    exit_code = 4


class StillRunning(ClientError):
    kind = "running"
    exit_code = 6


class Answered(ClientError):
    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Rejected(Answered):
    kind = "rejected"


class PermissionRefused(Answered):
    kind = "permission"
    exit_code = 3


class NotFound(Answered):
    kind = "not found"
    exit_code = 5


class Conflict(Answered):
    kind = "conflict"
    exit_code = 7


class Unavailable(Answered):
    """`retry_after` in seconds, where deliv gave it."""

    kind = "unavailable"
    exit_code = 4

    def __init__(self, message: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


def answered(status: int, message: str, retry_after: float | None) -> Answered:
    """The error for an HTTP status that is not a success."""
    if status == 429 or status >= 500:
        message = f"deliv can't do this now ({status}): {message}"
        return Unavailable(message, status=status, retry_after=retry_after)
    by_status = {403: PermissionRefused, 404: NotFound, 409: Conflict}
    return by_status.get(status, Rejected)(message, status=status)

"""Every error deliv raises on purpose, in one tree.

DelivError
├── ConfigError             the configuration can't be used; the message names the key
├── InvalidRequest          the caller's input is wrong: 400
├── Forbidden               the caller may not do this: 403
│   ├── CredentialRefused   a certificate chain that deliv does not accept
│   ├── TokenMissing        the call needs an access token and has none
│   ├── TokenRefused        an access token that deliv does not accept
│   └── QuotaExceeded       the submitter has as many unfinished jobs as the policy allows
├── NoCredential            no credential that a user has delegated, or one that ends too soon
├── NotFound                nothing of that name: 404
├── Conflict                the request contradicts an earlier one: 409
│   └── KeyReused           an idempotency key came with another body: 422
├── Unavailable             a dependency is down or deliv is full; worth a retry: 503
│   ├── Unreachable         no answer from a host (connect, TLS, time-out)
│   ├── DatabaseUnavailable
│   │   └── CommitUnknown   the connection broke during COMMIT: it may have worked
│   ├── BrokerUnavailable
│   ├── Saturated           the bounded bridge to blocking calls is full
│   └── ListTimeout         a list that is not found in time; the message says what to narrow
├── IllegalTransition       a state change that the transition table does not have
├── LostRace                the row was changed by another first; handled, never shown
├── DestinationBusy         another unfinished job delivers to the same file
└── Refused                 a stager or FTS said no; carries its status and reason
    └── DelegationNeeded    FTS wants a (longer) delegation: 419
"""

from __future__ import annotations


class DelivError(Exception):
    """Base of all deliberate errors. `public`: what a caller gets instead of the message.

    `challenge`: the answer's WWW-Authenticate.
    """

    status = 500
    public: str | None = None
    challenge: str | None = None


class ConfigError(DelivError):
    pass


class InvalidRequest(DelivError):
    status = 400


class Forbidden(DelivError):
    status = 403


class CredentialRefused(Forbidden):
    pass


class TokenMissing(Forbidden):
    challenge = "Bearer"


class TokenRefused(Forbidden):
    """`code` is RFC 6750's (section 3.1): invalid_token or insufficient_scope."""

    def __init__(self, message: str, *, code: str = "invalid_token") -> None:
        super().__init__(message)
        self.challenge = f'Bearer error="{code}"'


class QuotaExceeded(Forbidden):
    pass


class NoCredential(DelivError):
    pass


class NotFound(DelivError):
    status = 404


class Conflict(DelivError):
    status = 409


class KeyReused(Conflict):
    status = 422


class Unavailable(DelivError):
    """`retry_after` is in seconds and goes to the caller as Retry-After."""

    status = 503

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unreachable(Unavailable):
    """`sent`: the request may have arrived all the same, so that its outcome is open.

    `kind`: the message without what the server quoted, which is for those alone who asked.
    """

    def __init__(
        self, message: str, *, retry_after: int = 5, sent: bool = True, kind: str | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.sent = sent
        self.kind = kind or message


class DatabaseUnavailable(Unavailable):
    public = "the job database does not answer just now; nothing was changed: try again"


class CommitUnknown(DatabaseUnavailable):
    public = "the job database went away while the change was made: check whether it was made"


class BrokerUnavailable(Unavailable):
    pass


class Saturated(Unavailable):
    pass


class ListTimeout(Unavailable):
    pass


class IllegalTransition(DelivError):
    pass


class LostRace(DelivError):
    pass


class DestinationBusy(DelivError):
    pass


class Refused(DelivError):
    """`code` is the HTTP status the other side answered with."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class DelegationNeeded(Refused):
    pass

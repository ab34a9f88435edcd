"""The audit log: who was allowed to do what to which job, and who was refused, in JSON lines.

What is audited: every request, with the policy's decision on it (`request`); every TLS handshake
that is refused (`handshake`); every accepted job that the policy ends later (`decision`); every
change of the policy file (`policy`); the service's start and stop (`service`). A line is ASCII:
control characters, line ends, lone surrogates and text that runs from right to left are written as
\\uXXXX, so that nothing in a request can write a line of its own.

The log never delays the service. A line that can't be written is counted and reported, and the log
itself says how many are missing as soon as it can.
"""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from stat import S_ISREG
from typing import Any

import structlog

from deliv.errors import DelivError
from deliv.ops import metrics
from deliv.ops.addresses import neighbourhood
from deliv.ops.token_buckets import TokenBuckets

log = structlog.get_logger()

REFUSALS_PER_SECOND, REFUSALS_BURST = 5, 200  # handshakes of one neighbourhood, with a line each
LONGEST = 2048  # characters of one value; what is longer is cut
STANDARD_ERROR = 2
PARAMETERS = ("job_id", "product_id")  # of a request, as they were given
CONTEXT = ("owner", "destination_host")  # of a decision
REFUSALS = frozenset({401, 403, 429})
# O_NONBLOCK: a named pipe without a reader is an error, not a wait, unless it is opened to be read.
HOW = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
MODE = 0o640


class AuditEvent(StrEnum):
    REQUEST = "request"
    HANDSHAKE = "handshake"
    DECISION = "decision"
    POLICY = "policy"
    SERVICE = "service"
    GAP = "gap"


class AuditOutcome(StrEnum):
    """`failed`: not for want of permission (bad input, no such job, something is down)."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One line. What does not apply is left out of it.

    `dn` is the caller, `subject` the certificate presented where it is another (a proxy),
    `unverified_subject` that of one which was not accepted, and says whatever it likes, `owner`
    the submitter of the job; `action` and `rule` are the policy's, `client_id` and `token_id` an
    access token's that was good, `job_id` what the request named or made, `accepted` and
    `refused` how many items of a request for many, `times` how many such lines this one is for.
    """

    event: AuditEvent
    outcome: AuditOutcome | None = None
    peer: str | None = None
    dn: str | None = None
    subject: str | None = None
    unverified_subject: str | None = None
    limited: bool | None = None
    call: str | None = None
    action: str | None = None
    rule: str | None = None
    client_id: str | None = None
    token_id: str | None = None
    job_id: str | None = None
    owner: str | None = None
    product_id: str | None = None
    destination_host: str | None = None
    status: int | None = None
    reason: str | None = None
    accepted: int | None = None
    refused: int | None = None
    request_id: str | None = None
    times: int | None = None


FIELDS = tuple(field.name for field in fields(AuditEntry))


for _outcome in AuditOutcome:
    for _event in (AuditEvent.REQUEST, AuditEvent.HANDSHAKE):
        metrics.AUDIT_LINES.labels(event=_event.value, outcome=_outcome.value)


class AuditUnwritable(DelivError):
    pass


class AuditLog:
    """`path` None: standard error. Several processes may append to one file.

    The file is made by the first `reopen` or `write`, so that whoever only asks `check` makes none.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: int | None = None
        self._problem: str | None = None
        self._missing = 0
        self._refusals = TokenBuckets(REFUSALS_PER_SECOND, REFUSALS_BURST)
        self._summed: Counter[tuple[str, str]] = Counter()

    def write(self, entry: AuditEntry) -> None:
        """Append one line. Never raises: see `check`."""
        result = entry.outcome.value if entry.outcome else ""
        metrics.AUDIT_LINES.labels(event=entry.event.value, outcome=result).inc()
        if not self._try(self._gap() + line(entry)):
            self._missing += 1
            metrics.AUDIT_MISSING.inc()

    def refused_handshake(self, peer: str, reason: str, subject: str | None = None) -> None:
        """One line, while its neighbourhood has few a second; then one for many.

        Whoever wants to fill the disk need not have a certificate. `peer` is as from `address`, or
        a text without a port when its address is not known any more. `subject` is that of the
        certificate that was presented, if there was one; a line for many has none.
        """
        host = peer.rpartition(":")[0].strip("[]")
        source = neighbourhood(host) if host else peer
        if self._refusals.take(source):
            self._summed[source, reason] += 1
        else:
            self._refused(peer, reason, unverified_subject=subject)

    def settle(self) -> None:
        """Write the lines that stand for many refused handshakes."""
        for (source, reason), times in self._summed.items():
            self._refused(source, reason, times=times)
        self._summed.clear()

    def _refused(self, peer: str, reason: str, **facts: Any) -> None:
        self.write(
            AuditEntry(
                event=AuditEvent.HANDSHAKE,
                outcome=AuditOutcome.REFUSED,
                peer=peer,
                reason=reason,
                **facts,
            )
        )

    def reopen(self) -> None:
        """Go on in the file that has the name now; the old one may have been moved away."""
        self.close()
        self._try(self._gap())

    def check(self) -> str:
        """Where it is written to; AuditUnwritable, with the reason, while it can't be written."""
        self.settle()
        if self._problem is not None:
            self._try(self._gap())
        if self._problem is not None:
            raise AuditUnwritable(f"{self._problem}; {self._missing} lines are missing")
        path = self._path
        if self._file is None and path is not None:
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise AuditUnwritable(f"{self._name} may not be written")
        return f"written to {self._name}"

    def close(self) -> None:
        if self._file is not None and self._path is not None:
            os.close(self._file)
        self._file = None

    @property
    def _name(self) -> str:
        return str(self._path or "standard error")

    def _gap(self) -> bytes:
        if not self._missing:
            return b""
        return line(AuditEntry(event=AuditEvent.GAP, reason=self._problem, times=self._missing))

    def _try(self, lines: bytes) -> bool:
        """Append them, in one write: lines of several processes do not mix. Whether it worked."""
        try:
            if self._file is None:
                self._file = _open(self._path) if self._path else STANDARD_ERROR
            if lines:
                lines = b"\n" + lines if self._path and _torn(self._file) else lines
                if os.write(self._file, lines) < len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            problem = f"{self._name} can't be written: {error.strerror}"
            if problem != self._problem:
                log.error("the audit log can't be written", path=self._name, reason=error.strerror)
            self._problem = problem
            return False
        if self._problem is not None:
            log.info("the audit log is written again", path=self._name, missing=self._missing)
        self._problem, self._missing = None, 0
        return True


def _open(path: Path) -> int:
    other = path.exists() and not path.is_file()  # a pipe or a device
    return os.open(path, HOW | (os.O_WRONLY if other else os.O_RDWR), MODE)


def _torn(file: int) -> bool:
    """Whether its last line has no end: of this process or another, now or before a crash."""
    status = os.fstat(file)
    if not S_ISREG(status.st_mode) or not status.st_size:
        return False
    return os.pread(file, 1, status.st_size - 1) != b"\n"


def outcome(status: int) -> AuditOutcome:
    """What an HTTP status says of the decision."""
    if status in REFUSALS:
        return AuditOutcome.REFUSED
    return AuditOutcome.ALLOWED if status < 400 else AuditOutcome.FAILED


def address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def line(entry: AuditEntry, now: datetime | None = None) -> bytes:
    """The entry as one line of printable ASCII."""
    time = (now or datetime.now(UTC)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    values = {name: getattr(entry, name) for name in FIELDS}
    given = {name: _bounded(value) for name, value in values.items() if value is not None}
    text = json.dumps({"log": "audit", "time": time, **given}, separators=(",", ":"))
    return text.replace("\x7f", "\\u007f").encode("ascii") + b"\n"


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST:
        return value[:LONGEST] + " ... cut"
    return value

"""The audit line of one request."""

from __future__ import annotations

from typing import Any

from deliv.ops import audit
from deliv.ops.audit import AuditLog


class AuditLine:
    """Collects what the line is to say, and writes it once."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._facts: dict[str, Any] = {}
        self._written = False

    def note(self, **facts: Any) -> None:
        """By the fields of audit.AuditEntry."""
        self._facts.update(facts)

    def write(self, status: int, client: str) -> None:
        """`client` as from audit.address. All but the first call do nothing."""
        if self._written:
            return
        self._written = True
        entry = audit.AuditEntry(
            event=audit.AuditEvent.REQUEST,
            outcome=audit.outcome(status),
            status=status,
            peer=client,
            **self._facts,
        )
        self._log.write(entry)

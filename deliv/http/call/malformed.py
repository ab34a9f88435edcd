"""The answer to what is not HTTP: like every other one, and on record like every other one."""

from __future__ import annotations

import json
import time
import uuid

import structlog
from tornado.httputil import format_timestamp

from deliv.errors import CredentialRefused
from deliv.http.call import headers
from deliv.http.connections.tls_listener import Stream
from deliv.identity.tls import ConnectionIdentities
from deliv.ops import audit, metrics
from deliv.ops.audit import AuditLog

log = structlog.get_logger()

REASON = "this is not well-formed HTTP/1.1"


class Malformed:
    def __init__(self, identities: ConnectionIdentities, log: AuditLog) -> None:
        self._identities = identities
        self._log = log

    def answer(self, stream: Stream) -> bytes:
        """A whole answer with status 400, after which Tornado closes the connection."""
        request_id = uuid.uuid4().hex
        metrics.REQUESTS.labels(call="Malformed", code=400).inc()
        self._record(stream, request_id)
        body = json.dumps({"error": True, "msg": REASON}).encode()
        fields = {
            **headers.SECURITY,
            "Content-Type": headers.JSON,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Date": format_timestamp(time.time()),
            "X-Request-Id": request_id,
        }
        lines = [f"{name}: {value}" for name, value in fields.items()]
        head = "\r\n".join(["HTTP/1.1 400 Bad Request", *lines, "", ""])
        return head.encode("ascii") + body

    def _record(self, stream: Stream, request_id: str) -> None:
        try:
            dn = self._identities.of(stream).dn
        except CredentialRefused:
            dn = None
        log.info("malformed HTTP", dn=dn, request_id=request_id)
        self._log.write(
            audit.AuditEntry(
                event=audit.AuditEvent.REQUEST,
                outcome=audit.outcome(400),
                peer=stream.peer,
                dn=dn,
                status=400,
                reason=REASON,
                request_id=request_id,
            )
        )

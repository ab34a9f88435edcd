"""The answer to what is not HTTP: in the form of every other answer, with an audit line."""

from __future__ import annotations

import json
import time
import uuid

import structlog
from tornado.httputil import format_timestamp

from deliv.errors import CredentialRefused
from deliv.http.call import headers
from deliv.http.call.audit_line import AuditLine
from deliv.http.connections.tls_listener import HttpsStream
from deliv.identity.connection_identities import ConnectionIdentities
from deliv.ops import metrics
from deliv.ops.audit import AuditLog

log = structlog.get_logger()

REASON = "this is not well-formed HTTP/1.1"


class MalformedHttp:
    def __init__(self, identities: ConnectionIdentities, audit: AuditLog) -> None:
        self._identities = identities
        self._audit = audit

    def answer(self, stream: HttpsStream) -> bytes:
        """A whole answer with status 400, after which Tornado closes the connection."""
        request_id = uuid.uuid4().hex
        try:
            dn = self._identities.of(stream).dn
        except CredentialRefused:
            dn = None
        metrics.REQUESTS.labels(call="Malformed", code=400).inc()
        log.info("malformed HTTP", dn=dn, request_id=request_id)
        line = AuditLine(self._audit)
        line.note(dn=dn, reason=REASON, request_id=request_id)
        line.write(400, stream.client)
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

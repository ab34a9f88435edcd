"""A scripted FTS that takes delegations, by the answers of a real one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from deliv_testbed import pki

from integration import recorded
from integration.scripted_fts import Asked, Reply, ScriptedFts, reply

REST = recorded.sections("rest.txt")
WHOAMI = REST["GET /whoami (cert)"][0].content
DLG = f"/delegation/{WHOAMI['delegation_id']}"


def as_recorded(answer: recorded.Answer) -> Reply:
    return Reply(
        status=answer.status or 200,
        body=answer.body.encode(),
        content_type=answer.kind or "application/json",
    )


@dataclass
class CredentialDelegation:
    """FTS's side of a delegation: a request for a key of its own, what was put, until when."""

    put: list[bytes] = field(default_factory=list)
    until: datetime | None = None
    request: bytes = b""

    def install(self, server: ScriptedFts) -> None:
        name = pki.name(("O", "Dummy"))
        builder = x509.CertificateSigningRequestBuilder().subject_name(name)
        signed = builder.sign(pki.rsa_key(), hashes.SHA256())
        self.request = signed.public_bytes(serialization.Encoding.PEM)
        server.on("GET", "/", as_recorded(REST["GET / (cert)"][0]))
        server.on("GET", DLG, self._info)
        server.on("GET", f"{DLG}/request", Reply(body=self.request, content_type="text/plain"))
        server.on("PUT", f"{DLG}/credential", self._take)

    def _info(self, _asked: Asked) -> Reply:
        if self.until is None:
            return reply(None)
        when = self.until.strftime("%Y-%m-%dT%H:%M:%S")
        return reply({"termination_time": when, "voms_attrs": [""]})

    def _take(self, asked: Asked) -> Reply:
        assert asked.headers["Content-Type"] == "text/plain"
        self.put.append(asked.body)
        self.until = x509.load_pem_x509_certificates(asked.body)[0].not_valid_after_utc
        return Reply(status=201)

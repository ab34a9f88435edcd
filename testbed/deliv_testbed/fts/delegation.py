"""Delegation: a key that never leaves the server, and the caller's proxy for it."""

from __future__ import annotations

import asyncio
import time

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from deliv_testbed.fts import clock
from deliv_testbed.fts.caller import Caller
from deliv_testbed.fts.database import FtsDatabase, Row
from deliv_testbed.fts.errors import BadRequest, DelegationNeeded, Forbidden, NotFound

# FTS has 2048. A GridFTP server makes a key of as many bits at each login, and from 2048 on OpenSSL
# makes them by FIPS 186-4, for 0.3 s. Its default security level takes these as well.
KEY_BITS = 1984
LEAST_LIFE = 3600.0


class Delegation:
    """The calls below /delegation/ID."""

    def __init__(self, database: FtsDatabase) -> None:
        self._database = database

    def view(self, caller: Caller, dlg_id: str) -> dict[str, object] | None:
        _require_own(caller, dlg_id)
        credential = self._database.credential(dlg_id)
        if credential is None:
            return None
        return {"termination_time": credential["termination_time"], "voms_attrs": [""]}

    async def request(self, caller: Caller, dlg_id: str) -> str:
        """A PEM certificate request. It is kept and sent again, as FTS does: two clients that
        delegate at the same time don't invalidate each other's."""
        _require_own(caller, dlg_id)
        if self._database.request(dlg_id) is None:
            fresh = await asyncio.to_thread(_new_request, dlg_id)
            self._database.add_request(fresh)
        row = self._database.request(dlg_id) or {}
        return str(row["cert_request"])

    def accept(self, caller: Caller, dlg_id: str, body: bytes) -> None:
        """Take the proxy in with its chain (PEM, proxy first)."""
        _require_own(caller, dlg_id)
        request = self._database.request(dlg_id)
        if request is None:
            raise BadRequest("No credential cache found")
        chain = _validated(body, request["priv_key"])
        ends = min(certificate.not_valid_after_utc for certificate in chain)
        first, *rest = (item.public_bytes(serialization.Encoding.PEM).decode() for item in chain)
        self._database.put_credential(
            {
                "dlg_id": dlg_id,
                "dn": caller.user_dn,
                # Certificate, key, chain: the order that Globus reads.
                "proxy": "".join((first, request["priv_key"], *rest)),
                "termination_time": clock.text(ends.timestamp()),
            }
        )

    def delete(self, caller: Caller, dlg_id: str) -> None:
        _require_own(caller, dlg_id)
        if self._database.credential(dlg_id) is None:
            raise NotFound("Delegated credentials not found")
        self._database.delete_credential(dlg_id)

    def current(self, caller: Caller) -> tuple[str, str]:
        """The id and the proxy (PEM) of a delegation that has not expired; 419 otherwise."""
        dlg_id = caller.delegation_id or ""
        credential = self._database.credential(dlg_id)
        if credential is None:
            raise DelegationNeeded("No delegated proxy available")
        if clock.epoch(credential["termination_time"]) <= time.time():
            raise DelegationNeeded(f"Delegated proxy expired ({dlg_id})")
        return dlg_id, credential["proxy"]

    def require(self, caller: Caller) -> None:
        """A submission needs at least an hour of delegated life; 419 otherwise."""
        dlg_id = caller.delegation_id or ""
        credential = self._database.credential(dlg_id)
        if credential is None:
            raise DelegationNeeded(f'No delegation found for "{caller.user_dn}"')
        left = clock.epoch(credential["termination_time"]) - time.time()
        if left <= 0:
            raise DelegationNeeded(
                f"The delegated credentials expired {-left:.0f} seconds ago ({dlg_id})"
            )
        if left < LEAST_LIFE:
            raise DelegationNeeded(
                f"The delegated credentials has less than one hour left ({dlg_id})"
            )


def _new_request(dlg_id: str) -> Row:
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Dummy")])
    request = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
    return {
        "dlg_id": dlg_id,
        "cert_request": request.public_bytes(serialization.Encoding.PEM).decode(),
        "priv_key": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode(),
    }


def _require_own(caller: Caller, dlg_id: str) -> None:
    if dlg_id != caller.delegation_id:
        raise Forbidden("The requested ID and the credentials ID do not match")


def _validated(body: bytes, key_pem: str) -> list[x509.Certificate]:
    """The proxy and its chain, for the key that the request was made with."""
    try:
        chain = x509.load_pem_x509_certificates(body)
    except ValueError as error:
        raise _refused("Malformed proxy") from error
    if len(chain) < 2:
        raise _refused("Malformed proxy")
    proxy, issuer = chain[:2]
    key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    if proxy.public_key() != key.public_key():
        raise _refused("The proxy does not match the stored associated private key")
    issuer_key, algorithm = issuer.public_key(), proxy.signature_hash_algorithm
    try:
        if not isinstance(issuer_key, rsa.RSAPublicKey) or algorithm is None:
            raise InvalidSignature
        issuer_key.verify(
            proxy.signature, proxy.tbs_certificate_bytes, padding.PKCS1v15(), algorithm
        )
    except InvalidSignature as error:
        raise _refused(
            "Failed to verify the proxy, maybe signed with the wrong private key?"
        ) from error
    names = [proxy.subject.rdns, proxy.issuer.rdns]
    if names[0][:-1] != names[1] or proxy.issuer != issuer.subject:
        raise _refused("The subject and the issuer of the proxy do not match")
    if [attribute.oid for attribute in names[0][-1]] != [NameOID.COMMON_NAME]:
        raise _refused("Missing trailing Common Name in the proxy")
    return chain


def _refused(reason: str) -> BadRequest:
    return BadRequest(f"Could not process the proxy: {reason}")

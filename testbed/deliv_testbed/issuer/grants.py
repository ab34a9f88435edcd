"""The client credentials grant (RFC 6749, section 4.4), by the client's certificate (RFC 8705)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deliv.identity.x509 import dn
from deliv.identity.x509.certificates import thumbprint
from deliv_testbed.issuer.keys import KeyRing
from deliv_testbed.issuer.settings import IssuerSettings


@dataclass(kw_only=True)
class GrantError(Exception):
    """`code` is one of RFC 6749, section 5.2, or RFC 8707's invalid_target."""

    code: str
    description: str

    @property
    def status(self) -> int:
        return 401 if self.code == "invalid_client" else 400


class Grants:
    def __init__(self, settings: IssuerSettings, keys: KeyRing) -> None:
        self._settings = settings
        self._keys = keys

    def grant(self, form: Mapping[str, str], certificate: bytes | None) -> dict[str, object]:
        """The answer to a token request; GrantError when there is no token for it.

        `certificate` is the DER of the client's, as TLS has verified it.
        """
        if form.get("grant_type") != "client_credentials":
            raise GrantError(
                code="unsupported_grant_type", description="only client_credentials is known here"
            )
        name = form.get("client_id", "")
        client = self._settings.clients.get(name)
        holder = x509.load_der_x509_certificate(certificate) if certificate else None
        if not client or not holder or dn.oneline(dn.subject(holder)) != client.dn:
            raise GrantError(
                code="invalid_client", description="no client of that id has this certificate"
            )
        scopes = _chosen(form.get("scope", "").split(), client.scopes, "invalid_scope")
        audience = _chosen(form.get("resource", "").split(), client.audiences, "invalid_target")
        now = int(time.time())
        claims = {
            "iss": self._settings.issuer,
            "sub": name,
            "client_id": name,
            "aud": audience[0] if len(audience) == 1 else audience,
            "scope": " ".join(scopes),
            "iat": now,
            "nbf": now,
            "exp": now + self._settings.lifetime,
            "jti": secrets.token_urlsafe(16),
            "cnf": {"x5t#S256": thumbprint(holder.public_bytes(Encoding.DER))},
        }
        return {
            "access_token": self._keys.sign(claims),
            "token_type": "Bearer",
            "expires_in": self._settings.lifetime,
            "scope": claims["scope"],
        }


def _chosen(wanted: list[str], allowed: tuple[str, ...], error: str) -> list[str]:
    """What was asked for, all there is when nothing was."""
    if unknown := set(wanted) - set(allowed):
        raise GrantError(
            code=error, description=f"not for this client: {' '.join(sorted(unknown))}"
        )
    return wanted or list(allowed)

"""The access token of a request (RFC 6750, section 2.1): only from the Authorization header."""

from __future__ import annotations

from collections.abc import Mapping

from deliv.errors import TokenMissing


def bearer(headers: Mapping[str, str]) -> str:
    """The text after `Authorization: Bearer`, not checked; TokenMissing without that header."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise TokenMissing("this call needs an access token: Authorization: Bearer TOKEN")
    return token.strip(" ")

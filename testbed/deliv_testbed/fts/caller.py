"""Who calls: the certificate chain of a connection as FTS sees it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from deliv.identity.x509.dn import oneline
from deliv_testbed.tls import is_proxy

BASE_ID = uuid.UUID("01874efb-4735-4595-bc9c-591aef8240c9")
LEVEL = {"transfer": "vo", "datamanagement": "all"}


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A user by DN; `proxies` are the DNs of that user's proxies."""

    user_dn: str
    proxies: tuple[str, ...] = ()

    @property
    def anonymous(self) -> bool:
        return self.user_dn == "anon"

    @property
    def delegation_id(self) -> str | None:
        """Source: FTS's delegation ids are the first half of the SHA-1 of the DN (no VOMS)."""
        if self.anonymous:
            return None
        return hashlib.sha1(self.user_dn.encode(), usedforsecurity=False).hexdigest()[:16]

    @property
    def vo(self) -> str:
        """Without VOMS attributes each user is a VO of their own, named by the delegation id."""
        return self.delegation_id or ""

    @property
    def vo_id(self) -> uuid.UUID:
        return uuid.uuid5(BASE_ID, self.vo)

    def whoami(self) -> dict[str, object]:
        known = not self.anonymous
        return {
            "user_dn": self.user_dn,
            "dn": [self.user_dn, *self.proxies],
            "base_id": str(BASE_ID),
            "voms_cred": [],
            "vos": [self.vo] if known else [],
            "vos_id": [str(self.vo_id)] if known else [],
            "roles": [],
            "level": LEVEL if known else [],
            "delegation_id": self.delegation_id,
            "method": "certificate" if known else "unauthenticated",
            "is_root": False,
        }


ANONYMOUS = Caller(user_dn="anon")


def from_chain(chain: Sequence[x509.Certificate]) -> Caller:
    """The caller behind a verified chain, leaf first; an empty one is anonymous."""
    proxies: list[str] = []
    for certificate in chain:
        name = oneline(certificate.subject)
        if not is_proxy(certificate):
            return Caller(user_dn=name, proxies=tuple(reversed(proxies)))
        proxies.append(name)
    return ANONYMOUS

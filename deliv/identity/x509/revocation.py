"""Certificate revocation lists of a CA directory: HASH.r0, HASH.r1 and so on, in PEM.

OpenSSL checks them in the handshake, when they are required. They are checked here again whenever
an identity is computed, so that a list replaced since then counts on open connections too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from deliv.errors import CredentialRefused
from deliv.identity.files import Parsed, missing_number, numbered
from deliv.identity.x509 import der, dn
from deliv.identity.x509.certificates import MALFORMED, ChainLink

Mode = Literal["hard", "soft"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RevocationList:
    issuer: dn.Name
    crl: x509.CertificateRevocationList
    updated: datetime
    expires: datetime | None
    _signers: dict[bytes, bool] = field(default_factory=dict)

    @cached_property
    def serials(self) -> frozenset[int]:
        """What it revokes; computed on first use, as it takes longer than parsing the rest."""
        return frozenset(entry.serial_number for entry in self.crl)

    def signed_by(self, authority: ChainLink) -> bool:
        """Verified once for each CA: the list may have megabytes."""
        signer = authority.certificate.fingerprint(SHA256())
        if signer not in self._signers:
            try:
                valid = self.crl.is_signature_valid(authority.certificate.public_key())  # type: ignore[arg-type]
            except MALFORMED:
                valid = False
            self._signers[signer] = valid
        return self._signers[signer]


class Revocations:
    """`hard`: without a list of a CA all of its certificates are refused; `soft`: none.

    In `hard` mode a number that is missing before a list is a missing list: OpenSSL, which decides
    about new connections, looks at no list behind it. In `soft` mode it looks at none at all.

    A list that is there counts in both modes: when it is expired or broken, its CA's certificates
    are refused. Of several lists of one CA the newest that is in force counts.
    """

    def __init__(self, directory: Path, mode: Mode = "hard") -> None:
        self._directory = directory
        self._mode = mode
        self._files: Parsed[RevocationList] = Parsed(parse)

    def check(self, links: Sequence[ChainLink], now: datetime) -> datetime | None:
        """Until when this result is valid: the first list's end, None when no list has one.

        CredentialRefused when one of the links is revoked by the next, which issued it.
        """
        lists = [self._check(link, authority, now) for link, authority in pairwise(links)]
        ends = (found.expires for found in lists if found is not None)
        return min((end for end in ends if end is not None), default=None)

    def _check(self, link: ChainLink, authority: ChainLink, now: datetime) -> RevocationList | None:
        found = self._current(link.issuer_der, authority, now)
        if found is None:
            if self._mode == "hard":
                raise CredentialRefused(f"there is no revocation list of the CA {authority.dn}")
            return None
        if found.expires is not None and now > found.expires:
            raise CredentialRefused(f"the revocation list of the CA {authority.dn} has expired")
        if link.certificate.serial_number in found.serials:
            raise CredentialRefused(f"{link.dn} is revoked")
        return found

    def _current(self, issuer: bytes, authority: ChainLink, now: datetime) -> RevocationList | None:
        """The list of this CA that counts; other CAs may have some under the same hash."""
        try:
            stem = f"{dn.name_hash(issuer)}.r"
            paths = numbered(self._directory, stem)
            found = list(map(self._files.get, paths))
            if None in found:  # a link to a file that is gone
                raise ValueError("it can't be read")
        except ValueError as error:
            reason = f"the revocation list of the CA {authority.dn} is broken: {error}"
            raise CredentialRefused(reason) from error
        if self._mode == "hard" and missing_number([path.name for path in paths], stem):
            reason = f"a revocation list before those of the CA {authority.dn} is missing"
            raise CredentialRefused(reason)
        lists = [one for one in found if one is not None]
        own = [one for one in lists if dn.same(one.issuer, authority.subject)]
        signed = [one for one in own if one.signed_by(authority)]
        if own and not signed:
            raise CredentialRefused(f"the revocation list of {authority.dn} isn't signed by it")
        begun = [one for one in signed if one.updated <= now]
        if signed and not begun:
            reason = f"the revocation list of the CA {authority.dn} is not in force yet"
            raise CredentialRefused(reason)
        return max(begun, key=lambda one: one.updated, default=None)


def parse(content: bytes) -> RevocationList:
    """A revocation list from PEM; ValueError when it is malformed or of an unknown kind."""
    if content.count(b"-----BEGIN ") > 1:  # OpenSSL would use every one
        raise ValueError("it holds more than one PEM block: a file is one list")
    try:
        crl = x509.load_pem_x509_crl(content)
    except MALFORMED:
        raise ValueError("it is not a revocation list in PEM") from None
    try:
        if any(extension.critical for extension in crl.extensions):
            raise ValueError("it has a critical extension: a partial or indirect list")
        return RevocationList(
            issuer=_issuer(crl),
            crl=crl,
            updated=crl.last_update_utc,
            expires=crl.next_update_utc,
        )
    except MALFORMED as error:
        raise ValueError(str(error)) from error


def _issuer(crl: x509.CertificateRevocationList) -> dn.Name:
    """The issuer follows the signature algorithm, and before that a version if there is one."""
    fields = list(der.elements(der.content(crl.tbs_certlist_bytes, der.SEQUENCE)))
    return dn.parse(fields[2 if fields[0].tag == der.INTEGER else 1].encoding)

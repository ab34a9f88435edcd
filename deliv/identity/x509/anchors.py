"""Which CAs a CA directory trusts: HASH.0, HASH.1 and so on, in PEM.

OpenSSL reads them in the handshake. They are read here again for connections that were opened
before a CA was removed. As OpenSSL looks at none behind a number that is missing or broken, none
such counts here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deliv.errors import CredentialRefused
from deliv.identity.files import Parsed
from deliv.identity.x509 import dn
from deliv.identity.x509.certificates import MALFORMED, ChainLink


class Anchors:
    """The CA certificates of a directory, read again when they change."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: Parsed[frozenset[bytes]] = Parsed(parse)

    def check(self, anchor: ChainLink) -> None:
        """CredentialRefused unless exactly this certificate is in the directory."""
        encoding = anchor.certificate.public_bytes(Encoding.DER)
        if not any(encoding in found for found in self._under(anchor.subject_der)):
            raise CredentialRefused(f"the CA {anchor.dn} is not trusted")

    def named(self, name: bytes) -> list[bytes]:
        """The certificates, in DER, that may be of the CA with this name (its DER)."""
        return [encoding for found in self._under(name) for encoding in sorted(found)]

    def _under(self, name: bytes) -> Iterator[frozenset[bytes]]:
        """The certificates in each file for this name."""
        for number in count():
            try:
                found = self._files.get(self._directory / f"{dn.name_hash(name)}.{number}")
            except ValueError:
                return
            if found is None:
                return
            yield found


def parse(content: bytes) -> frozenset[bytes]:
    """The certificates in a PEM file, in DER; ValueError when it is malformed."""
    try:
        found = x509.load_pem_x509_certificates(content)
    except MALFORMED as error:
        raise ValueError(str(error)) from error
    return frozenset(one.public_bytes(Encoding.DER) for one in found)

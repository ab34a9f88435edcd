"""How long a PEM file's certificates are valid: read here, so that nothing but Python is needed.

The walk through the DER follows RFC 5280, section 4.1.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime

BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s", re.DOTALL)
VERSION = 0xA0
UTC_TIME = 0x17


def expiry(pem: str) -> datetime | None:
    """When the first of the file's certificates runs out; None when it has no certificate.

    Raises ValueError when a certificate is not X.509 in DER form.
    """
    ends = [not_after(ssl.PEM_cert_to_DER_cert(block)) for block in BLOCK.findall(pem + "\n")]
    return min(ends, default=None)


def not_after(der: bytes) -> datetime:
    """The end of one certificate's validity."""
    (_, certificate), *_ = _elements(der)
    (_, content), *_ = _elements(certificate)
    fields = [value for tag, value in _elements(content) if tag != VERSION]
    _serial, _algorithm, _issuer, validity, *_ = fields
    _, (tag, value) = _elements(validity)
    text = value.decode("ascii")
    if tag == UTC_TIME:  # two digits of the year: 50 to 99 are of the twentieth century
        text = ("20" if text[:2] < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """The (tag, content) pairs, one after the other."""
    elements, position = [], 0
    while position < len(der):
        tag, start, end = _header(der, position)
        elements.append((tag, der[start:end]))
        position = end
    return elements


def _header(der: bytes, position: int) -> tuple[int, int, int]:
    """Tag, and where the content starts and ends."""
    if len(der) < position + 2:
        raise ValueError("truncated")
    tag, length, start = der[position], der[position + 1], position + 2
    if length >= 0x80:
        octets = length & 0x7F
        length = int.from_bytes(der[start : start + octets], "big")
        start += octets
    if start + length > len(der):
        raise ValueError("truncated")
    return tag, start, start + length

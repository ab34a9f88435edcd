"""Distinguished names as the grid writes them: /DC=org/DC=example/CN=Alice.

The one-line form is OpenSSL 3's X509_NAME_oneline, byte for byte, which Globus and FTS print:
each attribute is `/TYPE=value`, the further ones of a multi-valued RDN `+TYPE=value`; `/` and `+`
in a value get a backslash, octets outside printable ASCII become `\\xHH`. Names are taken from
their DER, so that the octets of a value are those which the CA signed, whatever string type.

That form alone does not tell every two names apart: a backslash in a value isn't escaped, and a
BMPString of CJK characters can read as ASCII. `ambiguity` finds the names that could be taken for
another; where roles are decided such a name is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509

from deliv.identity.x509 import der
from deliv.identity.x509.attributes import SHORT_NAMES

UTF8, NUMERIC, PRINTABLE, T61, IA5, VISIBLE, UNIVERSAL, BMP = (
    12, 18, 19, 20, 22, 26, 28, 30,
)  # fmt: skip
BIT_STRING = 3
COMMON_NAME = "2.5.4.3"
# OpenSSL prints a dotted attribute type into a buffer of this size and cuts off the rest.
TYPE_LIMIT = 79
_WIDE = {BMP: "utf-16-be", UNIVERSAL: "utf-32-be"}
_SINGLE_OCTET = {NUMERIC: "ascii", PRINTABLE: "ascii", IA5: "ascii", VISIBLE: "ascii"}
_CANONICAL = {UTF8: "utf-8", PRINTABLE: "latin-1", T61: "latin-1", IA5: "latin-1",
              VISIBLE: "latin-1", **_WIDE}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One attribute of a name: dotted type, ASN.1 string tag, and the octets of the value."""

    type: str
    tag: int
    value: bytes

    @property
    def short_name(self) -> str:
        return SHORT_NAMES.get(self.type, self.type[:TYPE_LIMIT])


Name = tuple[tuple[Attribute, ...], ...]


def parse(name: bytes) -> Name:
    """The RDNs of a name's DER; ValueError when it is malformed."""
    rdns = []
    for rdn in der.elements(der.content(name, der.SEQUENCE)):
        if rdn.tag != der.SET:
            raise ValueError("an RDN that is not a SET")
        rdns.append(tuple(_attribute(item) for item in der.elements(rdn.content)))
    return tuple(rdns)


def subject(certificate: x509.Certificate) -> bytes:
    """The DER of the subject, as it stands in the certificate."""
    return _tbs_fields(certificate)[4]


def issuer(certificate: x509.Certificate) -> bytes:
    """The DER of the issuer, as it stands in the certificate."""
    return _tbs_fields(certificate)[2]


def oneline(name: x509.Name | bytes) -> str:
    """The one-line form of a name, or of a name's DER.

    Source: OpenSSL 3 crypto/x509/x509_obj.c, X509_NAME_oneline.
    """
    return oneline_rdns(parse(name if isinstance(name, bytes) else name.public_bytes()))


def oneline_rdns(rdns: Name) -> str:
    """The one-line form of some RDNs; empty for none."""
    return "".join("/" + "+".join(map(_print, rdn)) for rdn in rdns if rdn)


def same(one: Name, other: Name) -> bool:
    """Whether two names have the same octets in the same places, whatever their string types."""
    return _octets(one) == _octets(other)


def ambiguity(rdns: Name) -> str | None:
    """Why another name could print the same line; None when none can.

    Two names without ambiguity print the same line only when they have the same attribute types
    and the same characters in the same places.
    """
    if not rdns or not all(rdns):
        return "it is empty or has an empty part"
    return next(filter(None, (_doubt(item) for rdn in rdns for item in rdn)), None)


def name_hash(name: bytes) -> str:
    """The eight hex digits under which a CA's files stand in a CA directory (HASH.0).

    ValueError when a value is not what its string type says: OpenSSL takes no such name.
    Source: OpenSSL 1.0 and later, X509_NAME_hash: SHA-1 of the canonical name, in which empty
    RDNs do not stand.
    """
    canonical = b"".join(_canonical_rdn(rdn) for rdn in parse(name) if rdn)
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _tbs_fields(certificate: x509.Certificate) -> list[bytes]:
    """serialNumber, signature, issuer, validity, subject at 0 to 4, after the version."""
    fields = list(der.elements(der.content(certificate.tbs_certificate_bytes, der.SEQUENCE)))
    start = 1 if fields[0].tag == der.CONTEXT_0 else 0
    return [field.encoding for field in fields[start:]]


def _attribute(element: der.Element) -> Attribute:
    parts = list(der.elements(der.content(element.encoding, der.SEQUENCE)))
    if len(parts) != 2 or parts[0].tag != der.OBJECT_IDENTIFIER:
        raise ValueError("an attribute that is not a type and a value")
    kind, value = parts
    if value.tag & der.CONSTRUCTED:
        raise ValueError("an attribute whose value is not a string")
    octets = _bit_string(value.content) if value.tag == BIT_STRING else value.content
    return Attribute(type=der.object_identifier(kind.content), tag=value.tag, value=octets)


def _bit_string(content: bytes) -> bytes:
    """A BIT STRING's contents, the unused bits that its first octet counts set to zero."""
    if not content or content[0] > 7:
        raise ValueError("a malformed BIT STRING")
    unused, bits = content[0], content[1:]
    return content[:-1] + bytes((bits[-1] >> unused << unused,)) if bits else b"\0"


def _octets(rdns: Name) -> list[list[tuple[str, bytes]]]:
    return [[(attribute.type, attribute.value) for attribute in rdn] for rdn in rdns]


def _print(attribute: Attribute) -> str:
    return f"{attribute.short_name}={''.join(map(_escape, _printed_octets(attribute)))}"


def _printed_octets(attribute: Attribute) -> bytes:
    """A BIT STRING's first octet counts the unused bits and isn't printed."""
    return attribute.value[1:] if attribute.tag == BIT_STRING else attribute.value


def _escape(octet: int) -> str:
    if not 0x20 <= octet <= 0x7E:
        return f"\\x{octet:02X}"
    return f"\\{octet:c}" if octet in b"/+" else chr(octet)


def _doubt(attribute: Attribute) -> str | None:
    if len(attribute.type) > TYPE_LIMIT:
        return "an attribute type is too long"
    try:
        text = _text(attribute)
    except (ValueError, LookupError):
        return f"the value of {attribute.short_name} is not what its string type says"
    if "\0" in text or "\\" in text:
        return f"the value of {attribute.short_name} has a backslash or NUL in it"
    if attribute.tag in _WIDE and not all(character < "\u0100" for character in text):
        return f"the value of {attribute.short_name} is in a wide string type"
    return None


def _text(attribute: Attribute) -> str:
    """The characters of a value; ValueError or LookupError when they can't be told for sure."""
    if attribute.tag == T61:
        return _t61(attribute.value)
    if attribute.tag == UTF8:
        return attribute.value.decode()
    return attribute.value.decode(_SINGLE_OCTET.get(attribute.tag) or _WIDE[attribute.tag])


def _t61(value: bytes) -> str:
    if value.isascii():
        return value.decode()
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
    raise ValueError("could be read as UTF-8 as well")


def _canonical_rdn(rdn: tuple[Attribute, ...]) -> bytes:
    return der.encode(der.SET, b"".join(sorted(map(_canonical_attribute, rdn))))


def _canonical_attribute(attribute: Attribute) -> bytes:
    kind = der.encode(der.OBJECT_IDENTIFIER, _encode_type(attribute.type))
    return der.encode(der.SEQUENCE, kind + _canonical_value(attribute))


def _canonical_value(attribute: Attribute) -> bytes:
    encoding = _CANONICAL.get(attribute.tag)
    if encoding is None:
        return der.encode(attribute.tag, attribute.value)
    octets = attribute.value.decode(encoding).encode()
    return der.encode(UTF8, b" ".join(octets.split()).lower())


def _encode_type(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    return b"".join(map(_base128, (40 * first + second, *rest)))


def _base128(number: int) -> bytes:
    octets = [number & 0x7F]
    while number := number >> 7:
        octets.append(number & 0x7F | 0x80)
    return bytes(reversed(octets))

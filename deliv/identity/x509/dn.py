"""Distinguished names as the grid writes them: /DC=org/DC=example/CN=Alice.

The one-line form is OpenSSL 3's X509_NAME_oneline, byte for byte, which Globus and FTS print:
each attribute is `/TYPE=value`, the further ones of a multi-valued RDN `+TYPE=value`; `/` and `+`
in a value get a backslash, octets outside printable ASCII become `\\xHH`. Names are read from
their DER, so that the octets of a value are those which the CA signed, whatever its string type.

Two different names can have the same line: a backslash in a value isn't escaped, and a BMPString
of CJK characters can read as ASCII. `ambiguity` finds names for which there can be such another
one; a user with such a name is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509

from deliv.identity.x509 import der
from deliv.identity.x509.attribute_types import SHORT_NAMES

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
_PRINTED = tuple(
    f"\\{octet:c}" if octet in b"/+" else chr(octet) if 0x20 <= octet <= 0x7E else f"\\x{octet:02X}"
    for octet in range(256)
)


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One attribute of a name: dotted type, ASN.1 string tag, and the octets of the value."""

    type: str
    tag: int
    value: bytes

    @property
    def short_name(self) -> str:
        return SHORT_NAMES.get(self.type, self.type[:TYPE_LIMIT])

    @property
    def printed(self) -> str:
        """TYPE=value. The first octet of a BIT STRING counts unused bits and isn't printed."""
        octets = self.value[1:] if self.tag == BIT_STRING else self.value
        return f"{self.short_name}={''.join(_PRINTED[octet] for octet in octets)}"

    def text(self) -> str:
        """The characters of the value; ValueError or LookupError when they are not certain."""
        if self.tag == UTF8:
            return self.value.decode()
        if self.tag != T61:
            return self.value.decode(_SINGLE_OCTET.get(self.tag) or _WIDE[self.tag])
        if self.value.isascii():
            return self.value.decode()
        try:
            self.value.decode()
        except UnicodeDecodeError:
            return self.value.decode("latin-1")
        raise ValueError("could be read as UTF-8 as well")

    def canonical(self) -> bytes:
        """OpenSSL's canonical DER: characters as UTF-8 in lower case, with single spaces.

        ValueError when the value is not what its string type says.
        """
        kind = der.encode(der.OBJECT_IDENTIFIER, der.encode_object_identifier(self.type))
        encoding = _CANONICAL.get(self.tag)
        if encoding is None:
            value = der.encode(self.tag, self.value)
        else:
            octets = self.value.decode(encoding).encode()
            value = der.encode(UTF8, b" ".join(octets.split()).lower())
        return der.encode(der.SEQUENCE, kind + value)


Name = tuple[tuple[Attribute, ...], ...]


def parse(name: bytes) -> Name:
    """The RDNs of a name's DER; ValueError when it is malformed."""
    rdns = []
    for rdn in der.elements(der.content(name, der.SEQUENCE)):
        if rdn.tag != der.SET:
            raise ValueError("an RDN that is not a SET")
        attributes = []
        for attribute in der.elements(rdn.content):
            parts = list(der.elements(der.content(attribute.encoding, der.SEQUENCE)))
            if len(parts) != 2 or parts[0].tag != der.OBJECT_IDENTIFIER:
                raise ValueError("an attribute that is not a type and a value")
            kind, value = der.object_identifier(parts[0].content), parts[1]
            if value.tag & der.CONSTRUCTED:
                raise ValueError("an attribute whose value is not a string")
            octets = value.content
            if value.tag == BIT_STRING:  # the unused bits, counted by its first octet, become zero
                if not octets or octets[0] > 7:
                    raise ValueError("a malformed BIT STRING")
                unused, bits = octets[0], octets[1:]
                octets = octets[:-1] + bytes((bits[-1] >> unused << unused,)) if bits else b"\0"
            attributes.append(Attribute(type=kind, tag=value.tag, value=octets))
        rdns.append(tuple(attributes))
    return tuple(rdns)


def subject(certificate: x509.Certificate) -> bytes:
    """The DER of the subject, as it was signed."""
    return _tbs_fields(certificate)[4]


def issuer(certificate: x509.Certificate) -> bytes:
    """The DER of the issuer, as it was signed."""
    return _tbs_fields(certificate)[2]


def oneline(name: x509.Name | bytes) -> str:
    """The one-line form of a name, or of a name's DER.

    Source: OpenSSL 3 crypto/x509/x509_obj.c, X509_NAME_oneline.
    """
    return oneline_rdns(parse(name if isinstance(name, bytes) else name.public_bytes()))


def oneline_rdns(rdns: Name) -> str:
    """The one-line form of some RDNs; empty for none."""
    return "".join("/" + "+".join(attribute.printed for attribute in rdn) for rdn in rdns if rdn)


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
    for attribute in (attribute for rdn in rdns for attribute in rdn):
        if len(attribute.type) > TYPE_LIMIT:
            return "an attribute type is too long"
        try:
            text = attribute.text()
        except (ValueError, LookupError):
            return f"the value of {attribute.short_name} is not what its string type says"
        if "\0" in text or "\\" in text:
            return f"the value of {attribute.short_name} has a backslash or NUL in it"
        if attribute.tag in _WIDE and not all(character < "\u0100" for character in text):
            return f"the value of {attribute.short_name} is in a wide string type"
    return None


def name_hash(name: bytes) -> str:
    """The eight hex digits that name a CA's files in a CA directory (HASH.0).

    ValueError when a value is not what its string type says: OpenSSL accepts no such name.
    Source: OpenSSL 1.0 and later, X509_NAME_hash: SHA-1 of the canonical name, without its empty
    RDNs.
    """
    rdns = (sorted(attribute.canonical() for attribute in rdn) for rdn in parse(name) if rdn)
    canonical = b"".join(der.encode(der.SET, b"".join(attributes)) for attributes in rdns)
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _tbs_fields(certificate: x509.Certificate) -> list[bytes]:
    """serialNumber, signature, issuer, validity, subject at 0 to 4, after the version."""
    fields = list(der.elements(der.content(certificate.tbs_certificate_bytes, der.SEQUENCE)))
    start = 1 if fields[0].tag == der.CONTEXT_0 else 0
    return [field.encoding for field in fields[start:]]


def _octets(rdns: Name) -> list[list[tuple[str, bytes]]]:
    return [[(attribute.type, attribute.value) for attribute in rdn] for rdn in rdns]

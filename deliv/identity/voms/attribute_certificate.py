"""The attribute certificates (ACs) that a VOMS proxy carries, parsed and not yet verified.

verification.py says which of them count. Only what VOMS uses of RFC 5755 is accepted, in DER as
strict as in `der`: anything else is malformed.

Sources: RFC 5755, section 4; https://github.com/italiangrid/voms, src/ac.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from deliv.identity.voms import fqan
from deliv.identity.x509 import der, dn

EXTENSION = "1.3.6.1.4.1.8005.100.100.5"  # of a proxy
FQANS = "1.3.6.1.4.1.8005.100.100.4"  # an attribute
CERTIFICATES = "1.3.6.1.4.1.8005.100.100.10"  # extensions of an AC
TARGETS = "2.5.29.55"
NO_REVOCATION = "2.5.29.56"
KEY_IDENTIFIER = "2.5.29.35"
MAY_BE_CRITICAL = frozenset({CERTIFICATES, TARGETS})

# Real ones have one or two ACs of a few kilobytes, with a handful of FQANs.
LARGEST = 2**16  # octets of a proxy's extension
MOST = 8  # ACs in it
MOST_FQANS = 256  # in one AC; so of the next ones
MOST_CERTIFICATES = 8
MOST_EXTENSIONS = 16
MOST_TARGETS = 64
LONGEST_TYPE = 32  # octets of an object identifier

INFO = [
    der.INTEGER,
    der.SEQUENCE,
    der.CONTEXT_0,
    der.SEQUENCE,
    der.INTEGER,
    der.SEQUENCE,
    der.SEQUENCE,
]
AFTERWARDS = ([der.SEQUENCE], [der.BIT_STRING, der.SEQUENCE])  # a unique id, which is ignored
VERSION_2 = b"\x01"
NULL = b"\x05\x00"
DIRECTORY_NAME, URI, DNS_NAME = 0xA4, 0x86, 0x82  # of GeneralName
KEY_ID = 0x80  # of AuthorityKeyIdentifier
SERVER = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9_.-]{0,99})://([A-Za-z0-9][A-Za-z0-9.-]{0,252}):\d{1,5}"
)
TIME = re.compile(rb"\d{14}Z")


@dataclass(frozen=True, kw_only=True)
class AttributeCertificate:
    """What a VOMS server `host` claims about a member of `vo`.

    `holder` and `serial` name the member's certificate, `issuer` the server's. `certificates` are
    the server's own and its CAs', in DER. `targets`: hosts that it is for; None is every one.
    `signature` is that of `signed`, by `algorithm`, a dotted object identifier.
    """

    holder: dn.Name
    serial: int
    issuer: dn.Name
    starts: datetime
    ends: datetime
    vo: str
    host: str
    fqans: tuple[str, ...]
    certificates: tuple[bytes, ...]
    targets: frozenset[str] | None
    key_identifier: bytes
    algorithm: str
    signed: bytes
    signature: bytes


def parse(extension: bytes) -> tuple[AttributeCertificate, ...]:
    """The ACs in the value of a proxy's extension; ValueError when one of them is malformed."""
    if len(extension) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes of attributes")
    lists = _sequence(extension, 1)
    return tuple(_parse_one(one) for one in _sequence(lists[0].encoding, MOST)) if lists else ()


def _parse_one(element: der.Element) -> AttributeCertificate:
    info, algorithm, signature = _exactly(
        element, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE, der.BIT_STRING
    )
    fields = list(der.elements(info.content))
    tags = [field.tag for field in fields]
    if tags[:7] != INFO or tags[7:] not in AFTERWARDS:
        raise ValueError("not the fields of an attribute certificate")
    version, holder, issuer, inner, _, validity, attributes, *_, last = fields
    if version.content != VERSION_2:
        raise ValueError("not of version 2")
    if inner.encoding != algorithm.encoding:
        raise ValueError("two signature algorithms")
    (identifier,) = _exactly(holder, der.SEQUENCE, der.CONTEXT_0)
    holder_names, serial = _exactly(identifier, der.CONTEXT_0, der.SEQUENCE, der.INTEGER)
    (issuer_names,) = _exactly(issuer, der.CONTEXT_0, der.SEQUENCE)
    starts, ends = _exactly(validity, der.SEQUENCE, der.GENERALIZED_TIME, der.GENERALIZED_TIME)
    vo, host, fqans = _vo_attributes(attributes)
    certificates, targets, key_identifier = _extensions(last)
    kind, *parameters = der.elements(algorithm.content)
    if [one.encoding for one in parameters] not in ([], [NULL]):
        raise ValueError("a signature algorithm with parameters")
    if signature.content[:1] != b"\0":
        raise ValueError("a signature that is not whole octets")
    return AttributeCertificate(
        holder=_name(holder_names.content),
        serial=der.unsigned(serial.content),
        issuer=_name(issuer_names.content),
        starts=_time(starts),
        ends=_time(ends),
        vo=vo,
        host=host,
        fqans=fqans,
        certificates=certificates,
        targets=targets,
        key_identifier=key_identifier,
        algorithm=_type(kind),
        signed=info.encoding,
        signature=signature.content[1:],
    )


def _name(general_names: bytes) -> dn.Name:
    return dn.parse(der.content(general_names, DIRECTORY_NAME))


def _time(element: der.Element) -> datetime:
    if TIME.fullmatch(element.content) is None:
        raise ValueError("a time that is not YYYYMMDDHHMMSSZ")
    return datetime.strptime(element.content.decode(), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _vo_attributes(element: der.Element) -> tuple[str, str, tuple[str, ...]]:
    """The VO, its server, and the FQANs."""
    found = []
    for attribute in der.elements(element.content):
        kind, values = _exactly(attribute, der.SEQUENCE, der.OBJECT_IDENTIFIER, der.SET)
        if _type(kind) == FQANS:
            found.append(values.content)
    lists = _all(b"".join(found), der.SEQUENCE, 1)
    if not lists:
        raise ValueError("without attributes of a VO")
    authority, values = _exactly(lists[0], der.SEQUENCE, der.CONTEXT_0, der.SEQUENCE)
    server = SERVER.fullmatch(der.content(authority.content, URI).decode("ascii"))
    if server is None:
        raise ValueError("a server that is not named as VO://HOST:PORT")
    vo, host = server.groups()
    names = _all(values.content, der.OCTET_STRING, MOST_FQANS)
    fqans = tuple(fqan.normal(name.content.decode("ascii")) for name in names)
    if not all(f"{one}/".startswith(f"/{vo}/") for one in fqans):
        raise ValueError(f"an FQAN that is not of the VO {vo}")
    return vo, host, fqans


def _extensions(
    element: der.Element,
) -> tuple[tuple[bytes, ...], frozenset[str] | None, bytes]:
    """The certificates of the server and its CAs, the targets, and the key identifier."""
    values = _extension_values(element)
    if values.get(NO_REVOCATION) != NULL:
        raise ValueError("it doesn't say that it can't be revoked")
    lists = _sequence(values[CERTIFICATES], 1) if CERTIFICATES in values else []
    certificates = _sequence(lists[0].encoding, MOST_CERTIFICATES) if lists else []
    if not certificates:
        raise ValueError("without the certificate of its server")
    targets = None
    if TARGETS in values:
        names = _target_names(der.content(values[TARGETS], der.SEQUENCE), 0)
        targets = frozenset(name.lower() for name in names)
    if KEY_IDENTIFIER not in values:
        raise ValueError("without a key identifier")
    parts = der.elements(der.content(values[KEY_IDENTIFIER], der.SEQUENCE))
    key_identifier = b"".join(part.content for part in parts if part.tag == KEY_ID)
    return tuple(one.encoding for one in certificates), targets, key_identifier


def _extension_values(element: der.Element) -> dict[str, bytes]:
    """The value of each extension, by its object identifier."""
    values: dict[str, bytes] = {}
    for extension in _all(element.content, der.SEQUENCE, MOST_EXTENSIONS):
        parts = list(der.elements(extension.content))
        tags = [part.tag for part in parts]
        critical = tags == [der.OBJECT_IDENTIFIER, der.BOOLEAN, der.OCTET_STRING]
        if critical and parts[1].content != b"\xff":
            raise ValueError("a flag that is not true")
        if not critical and tags != [der.OBJECT_IDENTIFIER, der.OCTET_STRING]:
            raise ValueError("not an extension")
        oid = _type(parts[0])
        if oid in values:
            raise ValueError(f"the extension {oid} twice")
        if critical and oid not in MAY_BE_CRITICAL:
            raise ValueError(f"a critical extension {oid}")
        values[oid] = parts[-1].content
    return values


def _target_names(content: bytes, depth: int) -> Iterator[str]:
    """The hosts of targets. VOMS has one SEQUENCE more around each than RFC 5755, or one less."""
    for number, element in enumerate(der.elements(content)):
        if number >= MOST_TARGETS:
            raise ValueError(f"more than {MOST_TARGETS} targets")
        if element.tag == der.SEQUENCE and depth < 2:
            yield from _target_names(element.content, depth + 1)
        elif element.tag == der.CONTEXT_0:
            for name in der.elements(element.content):
                if name.tag in (URI, DNS_NAME):
                    yield name.content.decode("ascii")
        else:
            raise ValueError("a target that is not a name")


def _type(element: der.Element) -> str:
    if element.tag != der.OBJECT_IDENTIFIER or len(element.content) > LONGEST_TYPE:
        raise ValueError("not an object identifier, or a very long one")
    return der.object_identifier(element.content)


def _sequence(encoding: bytes, most: int) -> list[der.Element]:
    """The elements, each a SEQUENCE, of a SEQUENCE."""
    return _all(der.content(encoding, der.SEQUENCE), der.SEQUENCE, most)


def _all(content: bytes, tag: int, most: int) -> list[der.Element]:
    found: list[der.Element] = []
    for element in der.elements(content):
        if element.tag != tag or len(found) == most:
            raise ValueError(f"expected at most {most} values with tag 0x{tag:02x}")
        found.append(element)
    return found


def _exactly(element: der.Element, tag: int, *tags: int) -> list[der.Element]:
    """The parts of an element with this tag, which has exactly parts with these tags."""
    parts = list(der.elements(element.content))
    if element.tag != tag or [part.tag for part in parts] != list(tags):
        raise ValueError("not the parts that an attribute certificate has there")
    return parts

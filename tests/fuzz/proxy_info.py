"""proxyCertInfo extensions (RFC 3820): what is read is what would be written."""

from __future__ import annotations

from random import Random

from deliv_testbed import pki
from support.credentials import info

from deliv.identity.x509 import der, proxy
from fuzz.engine import Target, agree
from fuzz.mutation import BYTES, Mutator

UNKNOWN = bytes.fromhex("06032a0304")
LANGUAGES = (
    pki.INHERIT_ALL,
    pki.LIMITED,
    pki.INDEPENDENT,
    UNKNOWN,
    b"\x06\x00",
    b"\x06\x02\x80\x01",
)
LENGTHS = (b"", b"\0", b"\1", b"\x7f", b"\0\x80", b"\x80", b"\0\1", b"\xff" * 9, b"\x7f" * 300)
SAMPLES = (
    info(pki.INHERIT_ALL),
    info(pki.LIMITED, path_length=1),
    info(pki.INDEPENDENT, path_length=100),
    info(UNKNOWN, policy=b"a policy"),
)

mutated = Mutator(SAMPLES, BYTES)


def generated(random: Random) -> bytes:
    parts = [random.choice(LANGUAGES)]
    if random.random() < 0.3:
        parts.append(der.encode(der.OCTET_STRING, random.randbytes(random.choice((0, 1, 200)))))
    fields = [der.encode(der.SEQUENCE, b"".join(parts))]
    if random.random() < 0.6:
        fields.insert(0, der.encode(der.INTEGER, random.choice(LENGTHS)))
    if random.random() < 0.1:
        random.shuffle(fields)
        fields.append(random.choice(fields))
    return der.encode(der.SEQUENCE, b"".join(fields))


def check(encoding: bytes) -> None:
    found = proxy.parse_info(encoding, critical=True)
    agree(_written(found), encoding)


def _written(found: proxy.ProxyInfo) -> bytes:
    language = der.encode(der.OBJECT_IDENTIFIER, _type(found.language))
    policy = b"" if found.policy is None else der.encode(der.OCTET_STRING, found.policy)
    length = b""
    if found.path_length is not None:
        octets = found.path_length.bit_length() // 8 + 1
        length = der.encode(der.INTEGER, found.path_length.to_bytes(octets, "big"))
    return der.encode(der.SEQUENCE, length + der.encode(der.SEQUENCE, language + policy))


def _type(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    return b"".join(map(_base128, (40 * first + second, *rest)))


def _base128(number: int) -> bytes:
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:0:-1]), groups[0]])


TARGET = Target(
    name="proxyCertInfo",
    share=0.10,
    sources=(generated, mutated),
    check=check,
    refusals=(ValueError,),
)

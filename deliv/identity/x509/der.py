"""The DER that deliv reads as it was signed: names, proxyCertInfo, attribute certificates of VOMS.

Strict: low tag numbers and minimal definite lengths only (X.690, section 10). Malformed input
raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31
CONTEXT_0 = 0xA0
CONSTRUCTED = 0x20  # a bit of the identifier octet: made of values, as SEQUENCE is


@dataclass(frozen=True, kw_only=True)
class Element:
    """One value: its identifier octet, its contents, and the whole of its encoding."""

    tag: int
    content: bytes
    encoding: bytes


def elements(data: bytes) -> Iterator[Element]:
    """The values that follow one another in `data`."""
    position = 0
    while position < len(data):
        start, end = _content_bounds(data, position)
        yield Element(tag=data[position], content=data[start:end], encoding=data[position:end])
        position = end


def content(data: bytes, tag: int) -> bytes:
    """The contents of `data`, which is exactly one value with this tag."""
    found = list(elements(data))
    if len(found) != 1 or found[0].tag != tag:
        raise ValueError(f"expected one DER value with tag 0x{tag:02x}")
    return found[0].content


def object_identifier(data: bytes) -> str:
    """The dotted form of an OBJECT IDENTIFIER's contents."""
    numbers, value, pending = [], 0, False
    for octet in data:
        if not pending and octet == 0x80:
            raise ValueError("an object identifier that is not in its shortest form")
        value, pending = value << 7 | octet & 0x7F, octet >= 0x80
        if not pending:
            numbers.append(value)
            value = 0
    if pending:
        raise ValueError("an object identifier ends early")
    if not numbers:
        raise ValueError("an empty object identifier")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def unsigned(data: bytes) -> int:
    """The value of an INTEGER's contents, at least 0, in its shortest form."""
    value = int.from_bytes(data, "big", signed=True)
    if not data or value < 0 or (len(data) > 1 and data[0] == 0 and data[1] < 0x80):
        raise ValueError("not an unsigned integer in its shortest form")
    return value


def encode_object_identifier(dotted: str) -> bytes:
    """The contents of an OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = map(int, dotted.split("."))
    octets: list[int] = []
    for number in reversed((40 * first + second, *rest)):
        octets.append(number & 0x7F)
        while number := number >> 7:
            octets.append(number & 0x7F | 0x80)
    return bytes(reversed(octets))


def encode(tag: int, data: bytes) -> bytes:
    """One value with these contents."""
    if len(data) < 0x80:
        return bytes((tag, len(data))) + data
    length = len(data).to_bytes((len(data).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + data


def _content_bounds(data: bytes, position: int) -> tuple[int, int]:
    """Where the contents of the value at `position` start and end."""
    if data[position] & 0x1F == 0x1F:
        raise ValueError("a DER tag of several octets")
    if position + 1 >= len(data):
        raise ValueError("a DER value without a length")
    start, length = position + 2, data[position + 1]
    if length >= 0x80:  # the long form: how many octets of length follow
        start += length & 0x7F
        octets = data[position + 2 : start]
        length = int.from_bytes(octets, "big")
        if start > len(data) or length < 0x80 or octets[0] == 0:
            raise ValueError("a DER length that is not in its shortest form")
    if start + length > len(data):
        raise ValueError("a DER value ends early")
    return start, start + length

"""The parameters of a call: form and JSON bodies, and the values that are no mere text."""

from __future__ import annotations

import contextlib
import json
import re
from random import Random
from urllib.parse import urlencode

from deliv.errors import DelivError, InvalidRequest
from deliv.http import types
from deliv.http.call import items, parameters
from fuzz.engine import Disagreement, Target, agree
from fuzz.mutation import BYTES, Mutator, joined

NAMES = (
    "job_id",
    "product_id",
    "success",
    "size",
    "checksum",
    "msg",
    "destination_path",
    "Size",
    "é",
)
VALUES = (
    "", "005", "true", "FALSE", "yes", "0", "12", "٣", "-1", "1e3", "9" * 19,
    "9" * 5000, "a b&c=d+%",
    "é", "\u202e", "\0", "ADLER32:1", "adler32:DEADBEEF", "ADLER32:", "MD5:00",
    "gsiftp://h/a", "x" * 8193,
)  # fmt: skip
FORM_WORDS = (
    b"&",
    b"=",
    b";",
    b"%",
    b"%ff",
    b"%00",
    b"%C3%A9",
    b"%zz",
    b"+",
    b"\xff",
    b"size=",
    b"&size=" + b"9" * 4301,
)
JSON_WORDS = (
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"true", b"1", b"-0",
    b"1e999", b"NaN", b"Infinity",
    b'"\\ud800"', b"\\u0000", b"\\", b'"size":', b'"job_id":', b"[" * 3000,
    b"9" * 4301, b"\xef\xbb\xbf",
)  # fmt: skip
FORM_SAMPLES = (
    b"product_id=005&destination_path=gsiftp%3A%2F%2Fh%2Fa",
    b"job_id=7&product_id=005&success=true&size=12&checksum=ADLER32:00000001&msg=a+b",
)
JSON_SAMPLES = (
    b'{"product_id": "005", "destination_path": "gsiftp://h/a"}',
    b'{"job_id": "7", "success": true, "size": 12, "checksum": "ADLER32:00000001", "msg": null}',
)
TYPES = (
    "",
    parameters.FORM,
    f"{parameters.FORM}; charset=utf-8",
    "text/plain",
    "application/jsonx",
)


class Fuzzed(parameters.Parameters, frozen=True, kw_only=True):
    """NAMES without the last two."""

    job_id: str | None = None
    product_id: str | None = None
    success: types.Boolean | None = None
    size: types.Size | None = None
    checksum: types.Checksum | None = None
    msg: str | None = None
    destination_path: str | None = None


Body = tuple[str, bytes]
_form = Mutator(FORM_SAMPLES, (*BYTES, *FORM_WORDS * 4))
_json = Mutator(JSON_SAMPLES, (*BYTES, *JSON_WORDS * 4))


def generated_form(random: Random) -> Body:
    return parameters.FORM, urlencode(_pairs(random), errors="surrogatepass").encode()


def mutated_form(random: Random) -> Body:
    return random.choice(TYPES), _form(random)


def generated_json(random: Random) -> Body:
    return parameters.JSON, json.dumps(_object(random), ensure_ascii=random.random() < 0.5).encode()


def mutated_json(random: Random) -> Body:
    return parameters.JSON, _json(random)


def garbled_json(random: Random) -> Body:
    return parameters.JSON, joined(random, JSON_WORDS, 12)


def lines(random: Random) -> Body:
    """Of many items; also as an array."""
    some = [_json(random) for _ in range(random.randrange(4))]
    if random.random() < 0.5:
        return items.NDJSON, b"\n".join(some)
    return parameters.JSON, b'{"transfers": [' + b",".join(some) + b"]}"


def check_items(content_type: str, body: bytes) -> None:
    """What is wrong with an item is known when it is read, and nothing else happens then."""
    many = items.Items(Fuzzed, "transfers", 8, content_type, body)
    for place in range(len(many)):
        with contextlib.suppress(InvalidRequest):
            many.read(place)


def check(given: Body) -> None:
    content_type, body = given
    if content_type == items.NDJSON or body.startswith(b'{"transfers"'):
        check_items(content_type, body)
        return
    values = parameters.from_body(content_type, body, Fuzzed)
    agree(parameters.from_body(parameters.FORM, urlencode(values).encode(), Fuzzed), values)
    for text in values.values():
        str(text).encode()
    read = parameters.decode(Fuzzed, values)
    if read.size is not None and not 0 <= read.size < 2**63:
        raise Disagreement(f"size {read.size}")
    if read.checksum is not None and not re.fullmatch(r"ADLER32:[0-9a-f]{8}", read.checksum):
        raise Disagreement(f"checksum {read.checksum!r}")


def _pairs(random: Random) -> list[tuple[str, str]]:
    return [(random.choice(NAMES), random.choice(VALUES)) for _ in range(random.randrange(5))]


def _object(random: Random) -> dict[str, object]:
    odd: tuple[object, ...] = (None, True, 7, -1, 2**63, 1.5, [], {}, [["a", "b"]], 10**4000)
    pairs = _pairs(random)
    return {name: random.choice((value, value, random.choice(odd))) for name, value in pairs}


TARGET = Target(
    name="bodies",
    share=0.10,
    sources=(generated_form, mutated_form, generated_json, mutated_json, garbled_json, lines),
    check=check,
    refusals=(DelivError,),
)

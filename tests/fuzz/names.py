"""Distinguished names: deliv's one-line form and hash against OpenSSL's own."""

from __future__ import annotations

from random import Random

from support import libcrypto
from support.credentials import CN, OU, O, raw_name

from deliv.identity.x509 import der, dn
from fuzz.engine import Disagreement, Target, agree
from fuzz.mutation import BYTES, Mutator, joined

EMAIL, DC, UID, UNKNOWN = (
    bytes.fromhex(contents)
    for contents in ("2a864886f70d010901", "0992268993f22c640119", "0992268993f22c640101", "2a0304")
)
TYPES = (
    CN,
    CN,
    O,
    OU,
    DC,
    EMAIL,
    UID,
    UNKNOWN,
    b"\x55\x04\x83\x7f",
    b"\x2a" + b"\xff" * 9 + b"\x01",
)
STRINGS = (3, 12, 12, 12, 18, 19, 20, 22, 26, 27, 28, 30, 4, 23)
WORDS = (
    b"/", b"+", b"=", b"\\", b"/CN=", b"+OU=", b"/CN=alice", b"\\x2F", b"a",
    b"B", b" ", b"  ", b"\0",
    b"*", "é".encode(), b"\xe9", b"\xc3", b"\0a", b"\0\0\0a", b"\x4e\x2d",
    b"\xd8\x00", b"\x7f", b"\n",
)  # fmt: skip
SAMPLES = (
    raw_name([(O, 12, b"Grid")], [(OU, 12, b"users")], [(CN, 12, b"alice")]),
    raw_name([(CN, 12, "Zoë/a+b".encode()), (OU, 19, b"staff")], [(CN, 20, b"Zo\xeb")]),
    raw_name(
        [(DC, 22, b"org")], [(EMAIL, 22, b"a@b")], [(CN, 30, b"\0Z\0o"), (UNKNOWN, 3, b"\1ab")]
    ),
    raw_name([(CN, 28, b"\0\0\0Z")], [(O, 12, b"x" * 130)]),
)
REMEMBERED = 20  # characters of a line; so short that the same ones come again

mutated = Mutator(SAMPLES, (*BYTES, *WORDS, *(bytes((tag,)) for tag in STRINGS * 4)))
_meanings: dict[str, list[list[tuple[str, str]]]] = {}


def generated(random: Random) -> bytes:
    rdns = (_rdn(random) for _ in range(random.choice((0, 1, 1, 2, 2, 3, 5))))
    return _wrap(random, der.SEQUENCE, b"".join(rdns))


def check(name: bytes) -> None:
    rdns = dn.parse(name)
    theirs = libcrypto.describe(name)
    printed = dn.oneline_rdns(rdns)
    if theirs is not None:
        agree((printed, dn.name_hash(name)), theirs)
    if dn.ambiguity(rdns) is None:
        _check_meaning(printed, rdns)


def _check_meaning(printed: str, rdns: dn.Name) -> None:
    """Of all names without ambiguity, those that print one line mean the same."""
    meaning = [[(one.type, one.text()) for one in rdn] for rdn in rdns]
    if len(printed) <= REMEMBERED and _meanings.setdefault(printed, meaning) != meaning:
        raise Disagreement(f"{printed} is {meaning} and {_meanings[printed]}")


def _rdn(random: Random) -> bytes:
    attributes = [_attribute(random) for _ in range(random.choice((0, 1, 1, 1, 1, 1, 1, 2, 3)))]
    return _wrap(random, der.SET, b"".join(attributes))


def _attribute(random: Random) -> bytes:
    kind = _wrap(random, der.OBJECT_IDENTIFIER, random.choice(TYPES))
    value = _wrap(random, random.choice(STRINGS), joined(random, WORDS, 4))
    return _wrap(random, der.SEQUENCE, kind + value)


def _wrap(random: Random, tag: int, content: bytes) -> bytes:
    """A DER value; one in 200 has another tag, a longer length than it needs, or a wrong one."""
    match random.randrange(600):
        case 0:
            return der.encode(random.randrange(256), content)
        case 1:
            return bytes((tag, 0x82)) + len(content).to_bytes(2, "big") + content
        case 2:
            return bytes((tag, random.randrange(128))) + content
        case _:
            return der.encode(tag, content)


TARGET = Target(
    name="names",
    share=0.20,
    sources=(generated, mutated),
    check=check,
    refusals=(ValueError,),
)

"""VOMS attributes: whatever is done to an AC, it gives nothing that its server did not sign."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from deliv_testbed.pki import Credential
from support.attribute_certificates import (
    HOST,
    MEMBER,
    PRODUCTION,
    SHA1,
    SHA256,
    THIS_HOST,
    VO,
    carried,
    host_of,
    minted,
)
from support.credentials import key, user

from deliv.errors import CredentialRefused
from deliv.identity.voms import attribute_certificate, fqan, vomsdir
from deliv.identity.voms.verification import VomsVerifier
from deliv.identity.x509 import certificates, dn
from fuzz import chains
from fuzz.engine import Target, agree
from fuzz.mutation import BYTES, Mutator, joined

LSC = b"# of a server\n/O=Grid/OU=hosts/CN=voms.example.org\n/O=Grid/CN=fuzz CA\n"
NEXT = b"------ NEXT CHAIN ------\n"
SIGNED = ("/skao", "/skao/meerkat/Role=production")
DER_WORDS = (
    b"\x30\x80", b"\x30\x00", b"\x30\x82", b"\xa0", b"\xa4", b"\x86", b"\x06\x0a", b"\x01\x01\xff",
    b"\x18\x0f", b"\x05\x00", b"\x02\x01", b"\x03\x82", b"\x04\x00", b"\x1f\xff",
)  # fmt: skip
WORDS = ("/", "/skao", "skao", "/Role=", "/Capability=", "NULL", "a", "b.c", "-", "_", "\n", "é",
         "*", "?", "/**", "**", "=", " ", "..")  # fmt: skip
PIECES = ("/skao", "/a", "/ab", "*", "*", "?", "/Role=", "/Role=a", "/Role=NULL", "/**", "b", "c")
UNITS = re.compile(r"\*|\?|.", re.DOTALL)

Pair = tuple[str, str]


@cache
def server() -> Credential:
    return host_of(chains.authority(), key=key("fuzz"))


@cache
def holder() -> Credential:
    return user(chains.authority(), "alice", key=key("fuzz"))


@cache
def verifier() -> VomsVerifier:
    directory = chains.directory()[1] / "vomsdir"
    (directory / VO).mkdir(parents=True)
    (directory / VO / f"{HOST}.lsc").write_bytes(LSC)
    trust: dict[str, Any] = chains.files()
    return VomsVerifier(directory, THIS_HOST, **trust)


def mutated(random: Random) -> bytes:
    return _extensions()(random)


def generated(random: Random) -> bytes:
    """An AC of odd contents, with a signature that isn't one."""
    fqans = [joined(random, WORDS, 6) for _ in range(random.randrange(4))] or [MEMBER, PRODUCTION]
    changes: dict[str, Any] = {
        "fqans": random.choice((fqans, [MEMBER, PRODUCTION])),
        "uri": random.choice(
            (None, None, joined(random, (VO, "://", HOST, ":", "1", "/", ".."), 6))
        ),
        "targets": random.choice((None, [], [THIS_HOST], [joined(random, WORDS, 3)] * 70)),
        "serial": random.choice((None, None, 0, 2**70)),
        "holder_name": random.choice((None, dn.subject(holder().certificate), b"\x30\x00", b"x")),
        "version": random.choice((attribute_certificate.VERSION_2, b"", b"\0\1")),
        "algorithm": random.choice((SHA256, SHA256, SHA1)),
        "signature": random.choice((b"", random.randbytes(256), bytes(256), b"\xff" * 256)),
    }
    return carried(*[minted(server(), holder().certificate, **changes)] * random.choice((1, 1, 2)))


def check(extension: bytes) -> None:
    found = attribute_certificate.parse(extension)
    for one in found:
        agree([fqan.normal(name) for name in one.fqans], list(one.fqans))
        agree(all(f"{name}/".startswith(f"/{one.vo}/") for name in one.fqans), True)
        agree("/" in one.vo + one.host or ".." in (one.vo, one.host), False)
    link = _holder_link()
    attributes = verifier().judge(found, link, datetime.now(UTC))
    agree(attributes.fqans in ((), SIGNED), True)
    agree(str(attributes.refused).isascii() and str(attributes.refused).isprintable(), True)
    if not attributes.fqans:
        raise CredentialRefused(str(attributes.refused))


def lsc_files(random: Random) -> bytes:
    return _lsc(random)


def check_lsc(content: bytes) -> None:
    """A chain that is accepted has names, at least a server's and a CA's."""
    for chain in vomsdir.parse(content):
        agree(len(chain) >= 2 and all(name.startswith("/") for name in chain), True)


def patterns(random: Random) -> Pair:
    pattern = "/skao" + joined(random, PIECES, 5)
    text = _like(random, pattern) if random.random() < 0.7 else joined(random, WORDS, 5)
    return pattern, text


def check_pattern(given: Pair) -> None:
    """Against a matcher of another kind, one character after the other."""
    pattern, text = given
    matches = fqan.compiled(pattern)
    name = fqan.normal(text)
    body = pattern.removesuffix(fqan.BELOW)
    plain = re.sub(r"/(Role|Capability)=NULL(?=/|$)", "", body)
    agree(matches(name), _matches(plain, name, below=body != pattern))


def _matches(pattern: str, text: str, *, below: bool) -> bool:
    if not pattern:
        return below == bool(text) and (not text or text.startswith("/"))
    first, rest = pattern[0], pattern[1:]
    if first == "*" and _matches(rest, text, below=below):
        return True
    if not text or (text[0] != first if first not in "*?" else text[0] in "/="):
        return False
    return _matches(pattern if first == "*" else rest, text[1:], below=below)


def _like(random: Random, pattern: str) -> str:
    stars = {"*": ("", "a", "ab", "="), "?": ("a", "/")}
    body = pattern.removesuffix(fqan.BELOW)
    text = "".join(random.choice(stars.get(one, (one,))) for one in UNITS.findall(body))
    return text + (joined(random, ("/a", "/Role=a", "b"), 3) if body != pattern else "")


@cache
def _holder_link() -> certificates.ChainLink:
    return certificates.load(holder().certificate.public_bytes(Encoding.DER))


@cache
def _extensions() -> Mutator[bytes]:
    one = minted(server(), holder().certificate)
    narrow = minted(server(), holder().certificate, targets=[THIS_HOST])
    return Mutator([carried(one), carried(narrow)], (*BYTES, *DER_WORDS * 8))


_lsc = Mutator([LSC, LSC + NEXT + LSC], (*BYTES, *(LSC, NEXT, b"/CN=", b'"', b"\n", b"#") * 8))

TARGETS = (
    Target(
        name="VOMS",
        share=0.03,
        sources=(mutated, generated),
        check=check,
        refusals=(ValueError, CredentialRefused),
    ),
    Target(
        name="LSC files",
        share=0.01,
        sources=(lsc_files,),
        check=check_lsc,
        refusals=(ValueError,),
    ),
    Target(
        name="FQAN patterns",
        share=0.02,
        sources=(patterns,),
        check=check_pattern,
        refusals=(ValueError,),
    ),
)

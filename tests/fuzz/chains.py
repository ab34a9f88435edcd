"""Whole certificate chains, as TLS hands them over, with names and extensions put into them.

Nothing is signed again: OpenSSL checks signatures before deliv reads a chain.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from deliv_testbed import pki
from support import libcrypto
from support.credentials import full, key, limited, user

from deliv.errors import CredentialRefused
from deliv.identity.x509 import chain, der
from deliv.identity.x509.anchors import Anchors
from deliv.identity.x509.revocation import Revocations
from deliv.identity.x509.signing_policy import SigningPolicies
from fuzz import names, proxy_info
from fuzz.engine import Target, agree
from fuzz.mutation import BYTES, Mutator

ISSUER, SUBJECT = 3, 5  # among the fields of a certificate of version 3
EVERYBODY = (
    "access_id_CA X509 '/O=Grid/CN=fuzz CA'\npos_rights globus CA:sign\ncond_subjects globus '*'\n"
)

Chain = list[bytes]


@cache
def authority() -> pki.Authority:
    return pki.Authority.create(pki.name(("O", "Grid"), ("CN", "fuzz CA")), key=key("fuzz"))


@cache
def samples() -> tuple[Chain, ...]:
    """A user, a proxy, a proxy of that, and a limited one of that, each with its chain."""
    alice = user(authority(), "alice", key=key("fuzz"))
    first = full(alice, key=key("fuzz"))
    second = full(first, key=key("fuzz"))
    third = limited(second, key=key("fuzz"))
    return tuple(
        [
            one.public_bytes(Encoding.DER)
            for one in (credential.certificate, *credential.chain, authority().certificate)
        ]
        for credential in (alice, first, second, third)
    )


@cache
def directory() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """A CA directory; it goes with the process."""
    made = tempfile.TemporaryDirectory()
    path = Path(made.name)
    authority().install(path)
    for policy in path.glob("*.signing_policy"):
        policy.write_text(EVERYBODY, encoding="ascii")
    return made, path


@cache
def files() -> dict[str, object]:
    path = directory()[1]
    return {
        "policies": SigningPolicies(path),
        "revocations": Revocations(path),
        "anchors": Anchors(path),
    }


def renamed(random: Random) -> Chain:
    """A generated name as the subject of a certificate and the issuer of the one below."""
    changed, at = list(random.choice(samples())), 0
    at = random.randrange(len(changed) - 1)
    name = random.choice((names.generated, names.mutated))(random)
    changed[at] = _with(changed[at], SUBJECT, name)
    if at and random.random() < 0.8:
        changed[at - 1] = _with(changed[at - 1], ISSUER, name)
    return changed


def reinformed(random: Random) -> Chain:
    """A generated proxyCertInfo in one of the proxies."""
    changed = list(random.choice(samples()[1:]))
    at = random.randrange(len(changed) - 2)
    old = x509.load_der_x509_certificate(changed[at])
    carried = old.extensions.get_extension_for_oid(pki.PROXY_CERT_INFO)
    assert isinstance(carried.value, x509.UnrecognizedExtension)
    new = random.choice((proxy_info.generated, proxy_info.mutated))(random)
    changed[at] = _respliced(changed[at], carried.value.value, new)
    return changed


def rearranged(random: Random) -> Chain:
    """Certificates left out, doubled or in another order."""
    changed = list(random.choice(samples()))
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(changed))
        match random.randrange(3):
            case 0:
                changed[at : at + 1] = []
            case 1:
                changed[at:at] = [random.choice(random.choice(samples()))]
            case _:
                random.shuffle(changed)
        changed = changed or list(samples()[0])
    return changed


def mutated(random: Random) -> Chain:
    """Some octets of one certificate changed."""
    changed = list(random.choice(samples()))
    at = random.randrange(len(changed))
    changed[at] = _mutator().change(random, changed[at])
    return changed


@cache
def _mutator() -> Mutator[bytes]:
    return Mutator([one for sample in samples() for one in sample], BYTES)


def check(given: Chain) -> None:
    """Who is let in is whom OpenSSL prints, and never another than the user of the chain."""
    identity = chain.identify(given, now=datetime.now(UTC), **files())  # type: ignore[arg-type]
    user_at = len(chain.split(given).proxies)
    agree(identity.is_proxy, user_at > 0)
    for name, encoding in ((identity.dn, given[user_at]), (identity.subject, given[0])):
        theirs = libcrypto.describe_certificate(encoding)
        if theirs is not None:
            agree(name, theirs[0])


def _with(certificate: bytes, number: int, field: bytes) -> bytes:
    """The certificate with another value in one field of what is signed."""
    signed, *rest = der.elements(der.content(certificate, der.SEQUENCE))
    fields = [element.encoding for element in der.elements(signed.content)]
    fields[number] = field
    parts = [der.encode(der.SEQUENCE, b"".join(fields)), *(element.encoding for element in rest)]
    return der.encode(der.SEQUENCE, b"".join(parts))


def _respliced(encoding: bytes, old: bytes, new: bytes) -> bytes:
    """The encoding with every `old` replaced by `new`, and the lengths around it adapted."""
    if encoding == old:
        return new
    if old not in encoding:
        return encoding
    found = list(der.elements(encoding))
    if len(found) > 1:
        return b"".join(_respliced(one.encoding, old, new) for one in found)
    return der.encode(found[0].tag, _respliced(found[0].content, old, new))


TARGET = Target(
    name="chains",
    share=0.10,
    sources=(renamed, reinformed, mutated, rearranged),
    check=check,
    refusals=(CredentialRefused,),
)

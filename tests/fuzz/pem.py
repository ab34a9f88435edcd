"""PEM that strangers send or CAs publish: delegated proxies, revocation lists, signing policies."""

from __future__ import annotations

from functools import cache
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deliv.errors import InvalidRequest
from deliv.identity import delegated
from deliv.identity.x509 import revocation, signing_policy
from fuzz import chains
from fuzz.engine import Disagreement, Target, agree
from fuzz.mutation import BYTES, Mutator

LINES = (
    b"\n",
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
    b"=",
    b"A",
    b"\r\n",
)
POLICY = b"""# who may certify whom
access_id_CA X509 '/O=Grid/CN=root CA'
pos_rights globus CA:sign
cond_subjects globus '"/O=Grid/OU=users/*" "/O=Grid/CN=?"'
"""
POLICY_WORDS = (
    b"'",
    b'"',
    b"\\",
    b"#",
    b" ",
    b"*",
    b"?",
    b"**" * 40,
    b"access_id_CA",
    b"globus",
    b"\n",
)


def proxies(random: Random) -> bytes:
    """Chains as the chains target makes them, in PEM."""
    chain = random.choice((chains.renamed, chains.rearranged))(random)
    return b"".join(_pem(encoding) for encoding in chain)


def mutated_proxies(random: Random) -> bytes:
    return _proxies()(random)


def check_proxies(body: bytes) -> None:
    found = delegated.read(body)
    agree(delegated.read(found.pem.encode()), found)
    if "PRIVATE" in found.pem:
        raise Disagreement("a private key goes on")


def lists(random: Random) -> bytes:
    return _lists()(random)


def check_lists(content: bytes) -> None:
    revocation.parse(content)


def policies(random: Random) -> bytes:
    return _policies(random)


def check_policies(content: bytes) -> None:
    """Whatever it says, it says nothing of a CA that it does not name."""
    entries = signing_policy.parse(content)
    signing_policy.allows(entries, "/O=Grid/CN=root CA", "/O=Grid/OU=users/CN=" + "a" * 50)
    agree(signing_policy.allows(entries, "/O=Another", "/O=Grid/CN=a"), "/o=another" in entries)


_policies = Mutator([POLICY], (*BYTES[:128], *POLICY_WORDS * 5))


def _pem(encoding: bytes) -> bytes:
    try:
        return x509.load_der_x509_certificate(encoding).public_bytes(Encoding.PEM)
    except ValueError:
        return b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"


@cache
def _proxies() -> Mutator[bytes]:
    whole = [b"".join(map(_pem, sample)) for sample in chains.samples()]
    return Mutator(whole, (*BYTES, *LINES * 10))


@cache
def _lists() -> Mutator[bytes]:
    alice = x509.load_der_x509_certificate(chains.samples()[0][0])
    crl = chains.authority().revocation_list([alice])
    return Mutator([crl.public_bytes(Encoding.PEM)], (*BYTES, *LINES * 10))


TARGETS = (
    Target(
        name="delegated PEM",
        share=0.03,
        sources=(proxies, mutated_proxies),
        check=check_proxies,
        refusals=(InvalidRequest,),
    ),
    Target(
        name="revocation",
        share=0.01,
        sources=(lists,),
        check=check_lists,
        refusals=(ValueError,),
    ),
    Target(
        name="signing policy",
        share=0.02,
        sources=(policies,),
        check=check_policies,
        refusals=(ValueError,),
    ),
)

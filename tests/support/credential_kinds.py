"""Every kind of credential that deliv must accept or refuse, and what it must say.

    for kind in KINDS:
        credential = kind.make(grid)           # None: no certificate at all

`handshake` is what OpenSSL says in refusing the kind, `reason` what deliv says, on its own or
because OpenSSL lets the kind pass; regular expressions both. With neither it is accepted as `dn`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from deliv_testbed import pki
from deliv_testbed.pki import Credential

from support.credentials import (  # fmt: skip
    ALICE,
    ALTERNATIVE_NAME,
    BMP,
    CA_USE,
    CLIENT,
    CN,
    IS_CA,
    NO_CA,
    OU,
    SERVER,
    T61,
    UNHEARD_OF,
    UNKNOWN_LANGUAGE,
    USE,
    USUAL,
    UTF8,
    Grid,
    O,
    alice,
    bounded,
    costly_key,
    days_ago,
    deep,
    draft,
    full,
    huge_key,
    info,
    issued_by,
    key,
    limited,
    name_of,
    named,
    own,
    part,
    proxy,
    raw_name,
    resigned,
    self_signed,
    signed_with,
    use,
    user,
)

Maker = Callable[[Grid], Credential | None]
Attributes = list[tuple[bytes, int, bytes]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    name: str
    make: Maker
    dn: str = ALICE
    limited: bool = False
    reason: str | None = None
    handshake: str | None = None
    unloadable: bool = False  # OpenSSL can't even present it

    @property
    def accepted(self) -> bool:
        return self.reason is None and self.handshake is None


def _kind(
    name: str,
    make: Maker,
    handshake: str | None = None,
    reason: str | None = None,
    **expected: Any,
) -> Kind:
    return Kind(name=name, make=make, handshake=handshake, reason=reason, **expected)


def _named(name: str, *attributes: Attributes, **expected: Any) -> Kind:
    subject = raw_name([(O, UTF8, b"Grid")], [(OU, UTF8, b"users")], *attributes)
    return _kind(name, lambda g: named(g.root, subject), **expected)


def _elliptic() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


EXPIRED = {"starts": days_ago(9), "ends": days_ago(8)}
TOMORROW = {"starts": days_ago(-1)}
SHORT = {"key": key("short", 1024)}
ELSEWHERE = {"subject": name_of("alice", organisation="Elsewhere")}
NO_SIGNING = (use(key_encipherment=True), True)
SIGNS_CERTIFICATES = (use(digital_signature=True, key_cert_sign=True), True)
LONG_NAME = name_of(*("x" * 64 for _ in range(16)))

ACCEPTED = (
    _kind("a user", alice),
    _kind("a user with an elliptic-curve key", lambda g: alice(g, key=_elliptic())),
    _kind("a user with a key of 3072 bits", lambda g: alice(g, key=key("long", 3072))),
    _kind("a user without basic constraints", lambda g: alice(g, extensions=(USE, CLIENT))),
    _kind("a user without any extension", lambda g: alice(g, extensions=())),
    _kind("a user of an intermediate CA", lambda g: user(g.intermediate)),
    _kind("a proxy", lambda g: full(alice(g))),
    _kind("a proxy without key usage", lambda g: full(alice(g), extensions=())),
    _kind("a proxy with an elliptic-curve key", lambda g: full(alice(g), key=_elliptic())),
    _kind("a proxy of a proxy", lambda g: full(full(alice(g)))),
    _kind("a proxy sixteen deep", lambda g: deep(alice(g), 16)),
    _kind("a proxy below an intermediate CA", lambda g: full(user(g.intermediate))),
    _kind("a proxy that allows none below", lambda g: bounded(alice(g), 0)),
    _kind("a proxy as deep as allowed", lambda g: full(bounded(alice(g), 1))),
    _kind("a limited proxy", lambda g: limited(alice(g)), limited=True),
    _kind("a limited proxy of a full one", lambda g: limited(full(alice(g))), limited=True),
    _kind("a limited proxy of a limited one", lambda g: limited(limited(alice(g))), limited=True),
    _named(
        "a name with a slash", [(CN, UTF8, b"a/CN=alice")], dn=r"/O=Grid/OU=users/CN=a\/CN=alice"
    ),
    _named(
        "a name with a plus", [(CN, UTF8, b"a+CN=alice")], dn=r"/O=Grid/OU=users/CN=a\+CN=alice"
    ),
    _named(
        "a multi-valued name",
        [(CN, UTF8, b"alice"), (OU, UTF8, b"staff")],
        dn="/O=Grid/OU=users/CN=alice+OU=staff",
    ),
    _named("a name in UTF-8", [(CN, UTF8, "Zoë".encode())], dn=r"/O=Grid/OU=users/CN=Zo\xC3\xAB"),
    _named("a name in Latin-1", [(CN, T61, b"Zo\xeb")], dn=r"/O=Grid/OU=users/CN=Zo\xEB"),
    _named(
        "a name in two octets a character",
        [(CN, BMP, b"\0Z\0o\0\xeb")],
        dn=r"/O=Grid/OU=users/CN=\x00Z\x00o\x00\xEB",
    ),
    _named("a name with a line end", [(CN, UTF8, b"a\nb")], dn=r"/O=Grid/OU=users/CN=a\x0Ab"),
    _named(
        "a name with an unknown attribute",
        [(b"\x2a\x03\x04", UTF8, b"x")],
        dn="/O=Grid/OU=users/1.2.3.4=x",
    ),
)

REFUSED_CHAINS = (
    _kind("no certificate", lambda g: None, "PEER_DID_NOT_RETURN_A_CERTIFICATE", "no certificate"),
    _kind("an unknown CA", lambda g: user(g.unknown), "unable to get"),
    _kind("a self-signed certificate", lambda g: self_signed(), "self.signed"),
    _kind("an expired user", lambda g: alice(g, **EXPIRED), "expired", "expired at"),
    _kind(
        "a user of tomorrow", lambda g: alice(g, **TOMORROW), "not yet valid", "not valid before"
    ),
    _kind("an expired proxy", lambda g: full(alice(g), **EXPIRED), "expired", "expired at"),
    _kind(
        "a proxy of tomorrow",
        lambda g: full(alice(g), **TOMORROW),
        "not yet valid",
        "not valid before",
    ),
    _kind(
        "a proxy of an expired user", lambda g: full(alice(g, **EXPIRED)), "expired", "expired at"
    ),
    _kind("a revoked user", lambda g: g.revoked, "revoked", "is revoked"),
    _kind("a proxy of a revoked user", lambda g: full(g.revoked), "revoked", "is revoked"),
    _kind(
        "a proxy of a proxy of a revoked user",
        lambda g: full(full(g.revoked)),
        "revoked",
        "is revoked",
    ),
    _kind(
        "a user of a revoked CA", lambda g: user(g.revoked_intermediate), "revoked", "is revoked"
    ),
    _kind(
        "a CA without CRL",
        lambda g: user(g.no_crl),
        "unable to get certificate CRL",
        "no revocation list",
    ),
    _kind("a CA with an old CRL", lambda g: user(g.old_crl), "CRL has expired", "has expired"),
    _kind("a CA with a foreign CRL", lambda g: user(g.foreign_crl), "CRL", "isn't signed by it"),
    _kind(
        "an unknown critical extension",
        lambda g: alice(g, extensions=(*USUAL, UNHEARD_OF)),
        "critical extension",
    ),
    _kind("a server's certificate", lambda g: alice(g, extensions=(NO_CA, USE, SERVER)), "purpose"),
    _kind(
        "a certificate issued by a user",
        lambda g: issued_by(alice(g)),
        "invalid CA|non-CA",
        "not a CA's",
    ),
    _kind(
        "a proxy signed with another key",
        lambda g: full(alice(g), signer=key("impostor")),
        "signature failure",
    ),
    _kind("a user key of 1024 bits", lambda g: alice(g, **SHORT), "EE.*(WEAK|SMALL)", "1024 bits"),
    _kind(
        "a proxy key of 1024 bits",
        lambda g: full(alice(g), **SHORT),
        "EE.*(WEAK|SMALL)",
        "1024 bits",
    ),
    _kind(
        "a user key of 1024 bits below a proxy",
        lambda g: full(alice(g, **SHORT)),
        "CA.*(WEAK|SMALL)",
        "1024 bits",
    ),
    _kind(
        "a user signed with SHA-1",
        lambda g: signed_with(g.root, "sha1"),
        "CA.*WEAK",
        "signed with SHA1",
    ),
    _kind(
        "a user signed with MD5",
        lambda g: signed_with(g.root, "md5"),
        "CA.*WEAK",
        "signed with MD5",
    ),
    _kind(
        "a proxy signed with SHA-1",
        lambda g: resigned(alice(g), "sha1"),
        "CA.*WEAK",
        "signed with SHA1",
    ),
    _kind(
        "a proxy with a public exponent as long as its modulus",
        lambda g: full(alice(g), key=costly_key("proxy")),
        reason=r"public exponent of 30\d\d bits, more than 32",
    ),
    _kind(
        "a user with a public exponent as long as the modulus",
        lambda g: full(alice(g, key=costly_key("user"))),
        reason=r"public exponent of 30\d\d bits, more than 32",
    ),
    _kind(
        "a proxy with a modulus above 8192 bits",
        lambda g: full(alice(g), key=huge_key()),
        reason="its RSA key has 8676 bits, more than 8192",
    ),
    _kind(
        "a user outside the signing policy",
        lambda g: alice(g, **ELSEWHERE),
        reason="outside the signing policy",
    ),
    _kind(
        "a proxy of a user outside the signing policy",
        lambda g: full(alice(g, **ELSEWHERE)),
        reason="outside the signing policy",
    ),
    _kind(
        "a CA outside the root's signing policy",
        lambda g: user(g.stray_intermediate),
        reason="outside the signing policy",
    ),
    _kind("a CA without signing policy", lambda g: user(g.no_policy), reason="no signing policy"),
    _kind(
        "a CA with a broken signing policy",
        lambda g: user(g.broken_policy),
        reason="signing policy of .* is broken",
    ),
    _kind(
        "a user that is a CA",
        lambda g: alice(g, extensions=(IS_CA, USE)),
        reason="a CA's certificate is not a user's",
    ),
    _kind(
        "a CA itself",
        lambda g: own(g.intermediate),
        "purpose",
        "a CA's certificate is not a user's",
    ),
    _kind(
        "a proxy of a CA",
        lambda g: full(own(g.intermediate)),
        "CA markings",
        "a CA's certificate is not a user's",
    ),
)

REFUSED_PROXIES = (
    _kind(
        "a full proxy of a limited one",
        lambda g: full(limited(alice(g))),
        reason="full proxy below a limited",
    ),
    _kind(
        "a full proxy two below a limited one",
        lambda g: full(limited(limited(alice(g)))),
        reason="full proxy below a limited",
    ),
    _kind(
        "a full proxy between limited ones",
        lambda g: limited(full(limited(alice(g)))),
        reason="full proxy below a limited",
    ),
    _kind(
        "a proxyCertInfo that is not critical",
        lambda g: full(alice(g), critical=False),
        reason="not critical",
    ),
    _kind(
        "a proxyCertInfo further up that is not critical",
        lambda g: full(full(alice(g), critical=False)),
        reason="not critical",
    ),
    _kind(
        "a malformed proxyCertInfo",
        lambda g: proxy(alice(g), info=b"\x30\x03\x02\x01"),
        reason="malformed proxyCertInfo",
        unloadable=True,
    ),
    _kind(
        "a proxy deeper than allowed",
        lambda g: full(bounded(alice(g), 0)),
        "proxy path length",
        "allows 0 proxies below itself and has 1",
    ),
    _kind(
        "a proxy two deeper than allowed",
        lambda g: full(full(bounded(alice(g), 1))),
        "proxy path length",
        "allows 1 proxies below itself and has 2",
    ),
    _kind("a proxy seventeen deep", lambda g: deep(alice(g), 17), reason="more than 16"),
    _kind(
        "a proxy with another's subject",
        lambda g: full(alice(g), subject=name_of("bob", "1")),
        "subject name",
        "plus one CN",
    ),
    _kind(
        "a proxy with its user's subject",
        lambda g: full(alice(g), subject=name_of("alice")),
        "self.signed|subject name",
        "plus one CN",
    ),
    _kind(
        "a proxy with two CNs",
        lambda g: full(alice(g), added=[part(CN="1"), part(CN="2")]),
        "subject name",
        "plus one CN",
    ),
    _kind(
        "a proxy that adds an OU",
        lambda g: full(alice(g), added=[part(OU="1")]),
        "subject name",
        "plus one CN",
    ),
    _kind(
        "a proxy that adds a CN and an OU in one",
        lambda g: full(alice(g), added=[part(CN="1", OU="1")]),
        "subject name",
        "plus one CN",
    ),
    _kind(
        "a proxy whose subject differs in case",
        lambda g: full(alice(g), subject=name_of("Alice", "1")),
        reason="not its issuer's plus one CN",
    ),
    _kind(
        "an independent proxy",
        lambda g: proxy(alice(g), info=info(pki.INDEPENDENT)),
        reason="independent",
    ),
    _kind(
        "a proxy with an unknown language",
        lambda g: proxy(alice(g), info=info(UNKNOWN_LANGUAGE)),
        reason="policy language",
    ),
    _kind(
        "a proxy of a proxy with an unknown language",
        lambda g: full(proxy(alice(g), info=info(UNKNOWN_LANGUAGE))),
        reason="policy language",
    ),
    _kind(
        "a proxy with a policy text",
        lambda g: proxy(alice(g), info=info(pki.INHERIT_ALL, policy=b"all")),
        reason="policy text",
    ),
    _kind(
        "a limited proxy with a policy text",
        lambda g: proxy(alice(g), info=info(pki.LIMITED, policy=b"all")),
        reason="policy text",
    ),
    _kind(
        "a legacy proxy",
        lambda g: proxy(alice(g), added=[part(CN="proxy")]),
        "invalid CA|non-CA",
        "legacy",
    ),
    _kind(
        "a legacy limited proxy",
        lambda g: proxy(alice(g), added=[part(CN="limited proxy")]),
        "invalid CA|non-CA",
        "legacy",
    ),
    _kind(
        "a proxy of the draft standard", lambda g: draft(alice(g)), "invalid CA|non-CA", "legacy"
    ),
    _kind(
        "a proxy that is a CA",
        lambda g: full(alice(g), extensions=(IS_CA, CA_USE)),
        reason="claims to be a CA",
        unloadable=True,
    ),
    _kind(
        "a proxy that may sign certificates",
        lambda g: full(alice(g), extensions=(SIGNS_CERTIFICATES,)),
        reason="key usage",
    ),
    _kind(
        "a proxy that may not sign",
        lambda g: full(alice(g), extensions=(NO_SIGNING,)),
        "purpose",
        "key usage",
    ),
    _kind(
        "a proxy with an alternative name",
        lambda g: full(alice(g), extensions=(USE, ALTERNATIVE_NAME)),
        reason="alternative name",
        unloadable=True,
    ),
    _kind(
        "a proxy of a user who may not sign",
        lambda g: full(alice(g, extensions=(NO_CA, NO_SIGNING))),
        "purpose",
        "may not sign",
    ),
)

REFUSED_NAMES = (
    _named(
        "a name with a backslash",
        [(CN, UTF8, b"eve\\")],
        [(CN, UTF8, b"alice")],
        reason="taken for another",
    ),
    _named(
        "a name that writes an escape", [(CN, UTF8, rb"Zo\xC3\xAB")], reason="taken for another"
    ),
    _named("a name in CJK that reads as ASCII", [(CN, BMP, b"alice!")], reason="taken for another"),
    _named("a name with a NUL", [(CN, UTF8, b"alice\0")], reason="taken for another"),
    _named(
        "a name in Latin-1 that reads as UTF-8",
        [(CN, T61, "Zoë".encode())],
        reason="taken for another",
    ),
    _kind("an empty name", lambda g: named(g.root, raw_name()), reason="taken for another"),
    _kind(
        "a name that is too long",
        lambda g: alice(g, subject=LONG_NAME),
        reason="more than 1000 characters",
    ),
)

KINDS = (*ACCEPTED, *REFUSED_CHAINS, *REFUSED_PROXIES, *REFUSED_NAMES)

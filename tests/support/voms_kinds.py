"""Every kind of VOMS proxy that deliv must take or refuse, and what it must say.

    for kind in KINDS:
        credential = kind.make(server, alice)

`reason`, a regular expression, is why the attributes do not count; without it `fqans` do. Whoever
comes stays who they are in any case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from deliv_testbed.pki import Authority, Credential

from deliv.identity.voms import attribute_certificate as ac
from deliv.identity.x509 import der, dn
from support.attribute_certificates import (
    ECDSA_SHA256,
    SHA1,
    SHA512,
    Server,
    carried,
    carrying,
    carrying_raw,
    host_of,
    minted,
    subject_key,
    target,
)
from support.credentials import (
    CA_USE,
    IS_CA,
    NO_CA,
    UNHEARD_OF,
    USE,
    days_ago,
    full,
    key,
    limited,
    name_of,
    use,
    user,
)

MEMBER, PRODUCER = "/skao", "/skao/meerkat/Role=production"
BOTH = (MEMBER, PRODUCER)
Maker = Callable[[Server, Credential], Credential]


@dataclass(frozen=True, kw_only=True)
class Kind:
    name: str
    make: Maker
    fqans: tuple[str, ...] = ()
    reason: str | None = None


def _good(name: str, make: Maker, *fqans: str) -> Kind:
    return Kind(name=name, make=make, fqans=fqans or BOTH)


def _bad(name: str, make: Maker, reason: str, *fqans: str) -> Kind:
    return Kind(name=name, make=make, reason=reason, fqans=fqans)


def _ac(**changes: Any) -> Maker:
    """A proxy with an AC of the server's, changed."""
    return lambda server, holder: carrying(holder, server.ac(holder, **changes))


def _by(other: Callable[[Server], Credential], **changes: Any) -> Maker:
    """A proxy with an AC of another server's."""
    return lambda server, holder: carrying(
        holder, minted(other(server), holder.certificate, **changes)
    )


def _raw(change: Callable[[bytes], bytes]) -> Maker:
    """A proxy whose VOMS extension has been changed."""
    return lambda server, holder: carrying_raw(holder, change(carried(server.ac(holder))))


def _resigned(value: bytes) -> bytes:
    """Another last octet, which is the signature's."""
    return value[:-1] + bytes((value[-1] ^ 1,))


def _renamed(value: bytes) -> bytes:
    """Another role, in as many letters."""
    return value.replace(b"Role=production", b"Role=superhero.")


def _elliptic(server: Server) -> Credential:
    own = ec.generate_private_key(ec.SECP256R1())
    return host_of(server.grid.root, key=own, extensions=_server(own))


def _server(own: Any, usage: Any = USE, *further: Any) -> tuple[Any, ...]:
    return (NO_CA, usage, (subject_key(own), False), *further)


def _revoked(server: Server) -> Credential:
    found = host_of(server.grid.root)
    server.grid.revoke(found.certificate)
    return found


def _namesake(server: Server) -> Credential:
    """A server of this name whose CA has the name of the right one, and is not."""
    subject = server.grid.root.certificate.subject
    return host_of(Authority.create(subject, key=key("impostor")))


def _below_a_user(server: Server) -> Credential:
    """A server's certificate that a user issued."""
    holder = user(server.grid.root, "mallory")
    return host_of(Authority(certificate=holder.certificate, key=holder.key))


def _shown_with_issuer(server: Server, holder: Credential) -> Credential:
    other = user(server.grid.root, "mallory")
    made = host_of(Authority(certificate=other.certificate, key=other.key))
    given = minted(made, holder.certificate, certificates=[made.certificate, other.certificate])
    return carrying(holder, given)


def _two_vos(server: Server, holder: Credential) -> Credential:
    lines = (server.credential.dn, dn.oneline(dn.issuer(server.credential.certificate)))
    server.write_lsc(*lines, vo="escape")
    other = server.ac(holder, vo="escape", fqans=["/escape"])
    return carrying(holder, server.ac(holder), other)


def _one_of_two(server: Server, holder: Credential) -> Credential:
    return carrying(holder, server.ac(holder), server.ac(holder, ends=days_ago(1)))


def _nearest(server: Server, holder: Credential) -> Credential:
    below = carrying(holder, server.ac(holder))
    return full(carrying(below, server.ac(holder, fqans=["/skao/other"])))


def _bad_above_good(server: Server, holder: Credential) -> Credential:
    below = carrying(holder, server.ac(holder))
    return carrying(below, server.ac(holder, ends=days_ago(1)))


GOOD = (
    _good("an AC", _ac()),
    _good("an AC with the holder's own name", lambda s, h: carrying(
        h, s.ac(h, holder_name=dn.subject(h.certificate)))),
    _good("an AC below a further proxy", lambda s, h: full(carrying(h, s.ac(h)))),
    _good("an AC in a limited proxy", lambda s, h: carrying(h, s.ac(h), make=limited)),
    _good("an AC signed with SHA-512", _ac(algorithm=SHA512)),
    _good("an AC of a server with an elliptic-curve key", _by(_elliptic, algorithm=ECDSA_SHA256)),
    _good("an AC for this host", _ac(targets=["other.example.org", "DELIV.example.org"])),
    _good("an AC of a clock that is a little ahead", _ac(starts=days_ago(-2 / 1440))),
    _good("an AC with an extension that may be ignored",
          _ac(extensions=[("1.2.3.4", b"x", False)])),
    _good("ACs of two VOs", _two_vos, *BOTH, "/escape"),
    _good("ACs in two proxies: those nearest to the caller count", _nearest, "/skao/other"),
    _good("an empty list of ACs above one that isn't", lambda s, h: carrying(
        carrying(h, s.ac(h)))),
)  # fmt: skip

HOLDERS = (
    _bad("another user's AC", lambda s, h: carrying(
        h, s.ac(user(s.grid.root, "bob"))), "another certificate"),
    _bad("an earlier certificate's AC", _ac(serial=1), "another certificate"),
    _bad("another issuer's AC of the same number",
         lambda s, h: carrying(h, s.ac(h, holder_name=dn.subject(s.grid.no_crl.certificate))),
         "another certificate"),
)  # fmt: skip

TIMES = (
    _bad("an expired AC", _ac(ends=days_ago(0.01)), "expired at"),
    _bad("an AC of tomorrow", _ac(starts=days_ago(-0.5)), "not valid before"),
    _bad("one AC of two is expired", _one_of_two, "VO skao: expired at", *BOTH),
    _bad("an expired AC above a good one", _bad_above_good, "expired at"),
)

SIGNATURES = (
    _bad("an AC with another role written in", _raw(_renamed), "signature is wrong"),
    _bad("an AC with a changed signature", _raw(_resigned),
         "signature is wrong"),
    _bad("an AC signed with another key", _ac(signer=key("impostor")), "signature is wrong"),
    _bad("an AC that its holder signed", lambda s, h: carrying(
        h, s.ac(h, signer=h.key)), "signature is wrong"),
    _bad("an AC without a signature", _ac(signature=b""), "signature is wrong"),
    _bad("an AC signed with SHA-1", _ac(algorithm=SHA1), "not good enough"),
    _bad("an AC with an ECDSA signature of an RSA key",
         _ac(algorithm=ECDSA_SHA256, signature=b"0"), "not good enough"),
    _bad("an AC with another key's identifier",
         _ac(without=[ac.KEY_IDENTIFIER],
             extensions=[(ac.KEY_IDENTIFIER, der.encode(der.SEQUENCE, b"\x80\x01x"), False)]),
         "another key"),
)  # fmt: skip

SERVERS = (
    _bad("a server of an unknown CA", _by(lambda s: host_of(s.grid.unknown)), "is not trusted"),
    _bad("a server of a CA with a trusted one's name", _by(_namesake), "is not trusted"),
    _bad("a server whose certificate a user issued", _by(_below_a_user), "is not trusted"),
    _bad("a server whose certificate a user issued, shown with it", _shown_with_issuer,
         "are not those of the LSC file"),
    _bad("a self-signed server", _by(lambda s: Credential(
        certificate=Authority.create(name_of("voms"), key=key("voms")).certificate,
        key=key("voms"))), "no trusted CA"),
    _bad("an expired server", _by(lambda s: host_of(
        s.grid.root, starts=days_ago(9), ends=days_ago(8))), "expired at"),
    _bad("a server of tomorrow", _by(lambda s: host_of(s.grid.root, starts=days_ago(-1))),
         "not valid before"),
    _bad("a revoked server", _by(_revoked), "is revoked"),
    _bad("a server with a key of 1024 bits", _by(lambda s: host_of(
        s.grid.root, key=key("short voms", 1024),
        extensions=_server(key("short voms", 1024)))), "1024 bits"),
    _bad("a server that may not sign", _by(lambda s: host_of(
        s.grid.root, extensions=_server(key("voms"), (use(key_encipherment=True), True)))),
        "may not sign"),
    _bad("a server with an unknown critical extension", _by(lambda s: host_of(
        s.grid.root, extensions=_server(key("voms"), USE, UNHEARD_OF))),
        "unknown critical extension"),
    _bad("a CA as a server", _by(lambda s: host_of(
        s.grid.root, extensions=(IS_CA, CA_USE, (subject_key(key("voms")), False)))),
        "may not sign|CA's certificate"),
    _bad("a server of another name", _by(lambda s: host_of(s.grid.root, "evil.example.org")),
         "are not those of the LSC file"),
    _bad("a user as a server", lambda s, h: carrying(h, minted(h, h.certificate)),
         "are not those of the LSC file"),
    _bad("a server's proxy as a server", lambda s, h: carrying(
        h, minted(full(s.credential), h.certificate)), "not that of its issuer"),
    _bad("a certificate that is not the issuer's", lambda s, h: carrying(
        h, s.ac(h, certificates=[h.certificate])), "not that of its issuer"),
    _bad("a server that the vomsdir does not have", _ac(host="other.example.org"),
         "no LSC file of its server other.example.org"),
    _bad("a server of another VO", _ac(vo="atlas", fqans=["/atlas"]), "no LSC file"),
)  # fmt: skip

CONTENTS = (
    _bad("an AC for other hosts", _ac(targets=["other.example.org"]), "meant for other hosts"),
    _bad("an AC for no host", _ac(targets=[]), "meant for other hosts"),
    _bad("an AC with an unknown critical extension",
         _ac(extensions=[("1.2.3.4", b"x", True)]), "critical extension 1.2.3.4"),
    _bad("an AC whose missing revocation is critical",
         _ac(without=[ac.NO_REVOCATION], extensions=[(ac.NO_REVOCATION, ac.NULL, True)]),
         "critical extension"),
    _bad("an AC that might be revoked", _ac(without=[ac.NO_REVOCATION]), "can't be revoked"),
    _bad("an AC without a key identifier", _ac(without=[ac.KEY_IDENTIFIER]), "key identifier"),
    _bad("an AC without certificates", _ac(without=[ac.CERTIFICATES]), "without the certificate"),
    _bad("an AC with an empty list of certificates", _ac(certificates=[]),
         "without the certificate"),
    _bad("an AC with two lists of targets",
         _ac(targets=["deliv.example.org"], extensions=[(ac.TARGETS, target("x"), True)]),
         "twice"),
    _bad("an AC with another VO's FQAN", _ac(fqans=["/skao", "/atlas"]), "not of the VO"),
    _bad("an AC with a longer VO's FQAN", _ac(fqans=["/skaoevil"]), "not of the VO"),
    _bad("an AC with a line end in an FQAN", _ac(fqans=["/skao/a\n{}"]), "not an FQAN"),
    _bad("an AC with letters beyond ASCII", _ac(fqans=["/skao/caf\u00e9"]), "ascii"),
    _bad("an AC with a role of no group", _ac(fqans=["Role=production"]), "not an FQAN"),
    _bad("an AC with 300 FQANs", _ac(fqans=[f"/skao/g{n}" for n in range(300)]), "at most 256"),
    _bad("an AC whose VO is a path", _ac(uri="../../skao://voms.example.org:1", fqans=["/skao"]),
         "VO://HOST:PORT"),
    _bad("an AC whose VO is a directory up", _ac(vo="..", fqans=["/.."]), "VO://HOST:PORT"),
    _bad("an AC whose server is a path", _ac(host="x/../voms.example.org"), "VO://HOST:PORT"),
    _bad("an AC of version 1", _ac(version=b"\0"), "not of version 2"),
    _bad("more ACs than anybody has", lambda s, h: carrying(h, *[s.ac(h)] * 9), "at most 8"),
    _bad("too large an extension", lambda s, h: carrying_raw(h, bytes(ac.LARGEST + 1)),
         "more than 65536 bytes"),
    _bad("an extension that is no list", lambda s, h: carrying_raw(h, b"\x04\x00"), "malformed"),
    _bad("an extension that ends early", _raw(lambda value: value[:-9]), "malformed"),
)  # fmt: skip

KINDS = (*GOOD, *HOLDERS, *TIMES, *SIGNATURES, *SERVERS, *CONTENTS)

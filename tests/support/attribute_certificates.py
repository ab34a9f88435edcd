"""VOMS attribute certificates with what a test wants in them, and a server that issues them.

    server = Server.create(grid)                     # with its LSC file in server.vomsdir
    carrying(alice(grid), server.ac(holder))         # a proxy with an AC

tests/support/voms_kinds.py has the table of kinds that deliv must take or refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from deliv_testbed.pki import Authority, Credential

from deliv.identity.voms import attribute_certificate as ac
from deliv.identity.voms.verification import VomsVerifier
from deliv.identity.x509 import der, dn
from deliv.identity.x509.anchors import Anchors
from deliv.identity.x509.chain import Identity, identify
from deliv.identity.x509.revocation import Revocations
from deliv.identity.x509.signing_policy import SigningPolicies
from support.credentials import CLIENT, NO_CA, USE, Grid, days_ago, full, key, part, user

VO, HOST, THIS_HOST = "skao", "voms.example.org", "deliv.example.org"
MEMBER, PRODUCTION = "/skao/Role=NULL/Capability=NULL", "/skao/meerkat/Role=production"
SHA1, SHA256, SHA512 = (f"1.2.840.113549.1.1.{number}" for number in (5, 11, 13))
ECDSA_SHA256 = "1.2.840.10045.4.3.2"
DIGESTS = {
    SHA1: hashes.SHA1(),  # noqa: S303 - to be refused
    SHA256: hashes.SHA256(),
    SHA512: hashes.SHA512(),
    ECDSA_SHA256: hashes.SHA256(),
}
Extension = tuple[str, bytes, bool]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A VOMS server and a vomsdir that has it."""

    credential: Credential
    grid: Grid
    vomsdir: Path

    @classmethod
    def create(cls, grid: Grid, vomsdir: Path) -> Server:
        credential = host_of(grid.root)
        server = cls(credential=credential, grid=grid, vomsdir=vomsdir)
        server.write_lsc(credential.dn, dn.oneline(dn.issuer(credential.certificate)))
        return server

    def write_lsc(self, *lines: str, vo: str = VO, host: str = HOST) -> None:
        (self.vomsdir / vo).mkdir(parents=True, exist_ok=True)
        (self.vomsdir / vo / f"{host}.lsc").write_text("\n".join(lines) + "\n", encoding="ascii")

    def seen(self, credential: Credential, now: datetime | None = None) -> Identity:
        """Whom a service that trusts this server takes a credential for."""
        directory = self.grid.directory
        trust: dict[str, Any] = {
            "policies": SigningPolicies(directory),
            "revocations": Revocations(directory),
            "anchors": Anchors(directory),
        }
        return identify(
            self.grid.chain(credential),
            now=now or datetime.now(UTC),
            read_attributes=VomsVerifier(self.vomsdir, THIS_HOST, **trust).read,
            **trust,
        )

    def ac(self, holder: Credential, **changes: Any) -> bytes:
        """An AC in DER for a user's certificate; see `minted`."""
        return minted(self.credential, holder.certificate, **changes)


def host_of(authority: Authority, name: str = HOST, **changes: Any) -> Credential:
    """A VOMS server's credential."""
    usual = (NO_CA, USE, CLIENT)
    extensions = (*usual, (subject_key(changes.get("key") or key("voms")), False))
    given = {"key": key("voms"), "extensions": extensions, **changes}
    subject = x509.Name([part(O="Grid"), part(OU="hosts"), part(CN=name)])
    return user(authority, subject=subject, **given)


def subject_key(private: Any) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(private.public_key())


def minted(
    server: Credential,
    holder: x509.Certificate,
    *,
    fqans: Sequence[str | bytes] = (MEMBER, PRODUCTION),
    vo: str = VO,
    host: str = HOST,
    uri: str | None = None,
    holder_name: bytes | None = None,
    serial: int | None = None,
    issuer: bytes | None = None,
    starts: datetime | None = None,
    ends: datetime | None = None,
    version: bytes = ac.VERSION_2,
    algorithm: str = SHA256,
    certificates: Sequence[x509.Certificate] | None = None,
    targets: Sequence[str] | None = None,
    extensions: Iterable[Extension] = (),
    without: Iterable[str] = (),
    signer: Any = None,
    signature: bytes | None = None,
) -> bytes:
    """An AC; `extensions` (type, value, critical) are added, the types `without` left out."""
    serial = holder.serial_number if serial is None else serial
    identifier = _general(holder_name or dn.issuer(holder)) + _integer(serial)
    authority = der.encode(der.CONTEXT_0, _uri(uri or f"{vo}://{host}:15000"))
    values = b"".join(der.encode(der.OCTET_STRING, _octets(one)) for one in fqans)
    attributes = _sequence(authority, der.encode(der.SEQUENCE, values))
    carried = (*_usual(server, certificates, targets, without), *extensions)
    kind = _sequence(_oid(algorithm), b"" if algorithm == ECDSA_SHA256 else ac.NULL)
    info = _sequence(
        der.encode(der.INTEGER, version),
        _sequence(der.encode(der.CONTEXT_0, identifier)),
        der.encode(der.CONTEXT_0, _general(issuer or dn.subject(server.certificate))),
        kind,
        _integer(7),
        _sequence(_time(starts or days_ago(0.1)), _time(ends or days_ago(-1))),
        _sequence(_sequence(_oid(ac.FQANS), der.encode(der.SET, attributes))),
        _sequence(*(_extension(*one) for one in carried)),
    )
    proof = _sign(signer or server.key, info, algorithm) if signature is None else signature
    return _sequence(info, kind, der.encode(der.BIT_STRING, b"\0" + proof))


def carried(*acs: bytes) -> bytes:
    """The value of a proxy's extension."""
    return _sequence(_sequence(*acs))


def carrying(issuer: Credential, *acs: bytes, make: Any = full, **changes: Any) -> Credential:
    """A proxy with these ACs."""
    return carrying_raw(issuer, carried(*acs), make=make, **changes)


def carrying_raw(issuer: Credential, value: bytes, make: Any = full, **changes: Any) -> Credential:
    """A proxy with this as its VOMS extension."""
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(ac.EXTENSION), value)
    return make(issuer, extensions=(USE, (extension, False)), **changes)


def target(*names: str) -> bytes:
    """The value of an extension, as VOMS writes it."""
    each = (_sequence(der.encode(der.CONTEXT_0, _uri(name))) for name in names)
    return _sequence(_sequence(*each))


def _usual(
    server: Credential,
    certificates: Sequence[x509.Certificate] | None,
    targets: Sequence[str] | None,
    without: Iterable[str],
) -> list[Extension]:
    shown = [server.certificate] if certificates is None else certificates
    encodings = (one.public_bytes(Encoding.DER) for one in shown)
    key_id = x509.SubjectKeyIdentifier.from_public_key(server.certificate.public_key()).digest
    found = [
        (ac.CERTIFICATES, _sequence(_sequence(*encodings)), False),
        (ac.NO_REVOCATION, ac.NULL, False),
        (ac.KEY_IDENTIFIER, _sequence(der.encode(ac.KEY_ID, key_id)), False),
    ]
    if targets is not None:
        found.append((ac.TARGETS, target(*targets), True))
    return [one for one in found if one[0] not in set(without)]


def _sign(signer: Any, info: bytes, algorithm: str) -> bytes:
    digest = DIGESTS[algorithm]
    if isinstance(signer, ec.EllipticCurvePrivateKey):
        return signer.sign(info, ec.ECDSA(digest))
    return signer.sign(info, padding.PKCS1v15(), digest)


def _extension(oid: str, value: bytes, critical: bool) -> bytes:
    flag = der.encode(der.BOOLEAN, b"\xff") if critical else b""
    return _sequence(_oid(oid), flag, der.encode(der.OCTET_STRING, value))


def _general(name: bytes) -> bytes:
    return _sequence(der.encode(ac.DIRECTORY_NAME, name))


def _uri(text: str) -> bytes:
    return der.encode(ac.URI, text.encode())


def _octets(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _oid(dotted: str) -> bytes:
    return der.encode(der.OBJECT_IDENTIFIER, der.encode_object_identifier(dotted))


def _integer(number: int) -> bytes:
    return der.encode(der.INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _time(time: datetime) -> bytes:
    return der.encode(der.GENERALIZED_TIME, f"{time:%Y%m%d%H%M%SZ}".encode())


def _sequence(*parts: bytes) -> bytes:
    return der.encode(der.SEQUENCE, b"".join(parts))

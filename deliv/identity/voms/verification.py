"""Which of the VOMS attributes in a proxy count.

Those of an attribute certificate (AC) that names the caller's own certificate, is in force and is
for this service, and is signed by a server that the vomsdir has for its VO and whose certificate
was issued by a trusted CA, with keys and digests as strong as are required of callers. An AC that
fails has no effect, and the reason is kept; the caller's identity is accepted without it.

As in VOMS, only the ACs of one proxy count: the one nearest to the leaf that carries any.

Sources: https://github.com/italiangrid/voms-api-java, LeafACLookupStrategy and
DefaultVOMSValidationStrategy; https://github.com/italiangrid/voms, src/ac/validate.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain as chained
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from deliv.errors import CredentialRefused
from deliv.identity.voms import attribute_certificate
from deliv.identity.voms.attribute_certificate import AttributeCertificate
from deliv.identity.voms.vomsdir import Vomsdir
from deliv.identity.x509 import certificates, chain, dn, proxy
from deliv.identity.x509.anchors import Anchors
from deliv.identity.x509.certificates import MALFORMED, ChainLink
from deliv.identity.x509.chain import NO_ATTRIBUTES, Attributes, Chain
from deliv.identity.x509.revocation import Revocations
from deliv.identity.x509.signing_policy import SigningPolicies

SKEW = timedelta(minutes=5)  # by which a server's clock may be ahead, as in VOMS
LONGEST_REASON = 500  # characters
LONGEST = 8  # certificates from a server's to its trust anchor
RSA: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.113549.1.1.14": hashes.SHA224(),
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
ELLIPTIC: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.10045.4.3.1": hashes.SHA224(),
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}
# Critical extensions that are checked here or in `chain`, or that do not matter here.
UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.CertificatePolicies,
)


class VomsVerifier:
    """`host` is the name of this service, which an AC that names targets has to name."""

    def __init__(
        self,
        directory: Path,
        host: str,
        *,
        policies: SigningPolicies,
        revocations: Revocations,
        anchors: Anchors,
    ) -> None:
        self._directory = Vomsdir(directory)
        self._host = host.lower()
        self._policies, self._revocations, self._anchors = policies, revocations, anchors

    def read(self, caller: Chain, now: datetime) -> Attributes:
        """What counts now of the attributes in the caller's proxies."""
        return self.of(caller.proxies, caller.user, now)

    def of(self, proxies: Sequence[ChainLink], user: ChainLink, now: datetime) -> Attributes:
        """The same of a user's proxies, from the leaf upwards, whose chain is verified."""
        for extension in (extension for link in proxies for extension in link.extensions):
            if extension.oid.dotted_string != attribute_certificate.EXTENSION:
                continue
            if not isinstance(extension.value, x509.UnrecognizedExtension):
                continue
            try:
                found = attribute_certificate.parse(extension.value.value)
            except ValueError as error:
                return Attributes(refused=f"malformed: {error}")
            if found:
                return self.judge(found, user, now)
        return NO_ATTRIBUTES

    def judge(
        self, found: Sequence[AttributeCertificate], user: ChainLink, now: datetime
    ) -> Attributes:
        """What counts of the ACs that a user has sent."""
        good, refused = [], []
        for one in found:
            try:
                good.append((one, self._check(one, user, now)))
            except CredentialRefused as error:
                refused.append(f"VO {one.vo}: {error}")
        return Attributes(
            fqans=tuple(dict.fromkeys(fqan for one, _ in good for fqan in one.fqans)),
            vos=tuple(dict.fromkeys(one.vo for one, _ in good)),
            ends=min((ends for _, ends in good), default=None),
            refused="; ".join(refused)[:LONGEST_REASON] or None,
        )

    def of_pem(self, proxy_pem: bytes, now: datetime) -> Attributes:
        """The same of a proxy and its chain, up to the user's certificate at least, in PEM."""
        chain_der = (
            one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(proxy_pem)
        )
        links = list(map(certificates.load, chain_der))
        proxies = list(takewhile(proxy.is_proxy, links))
        return self.of(proxies, links[len(proxies)], now)

    def _check(self, one: AttributeCertificate, user: ChainLink, now: datetime) -> datetime:
        """Until when an AC counts; CredentialRefused when it doesn't."""
        # Servers write the holder's own name where RFC 5755 has its issuer's; VOMS accepts either
        named = dn.same(one.holder, user.issuer) or dn.same(one.holder, user.subject)
        if not named or one.serial != user.certificate.serial_number:
            raise CredentialRefused("it was given to another certificate")
        if now > one.ends:
            raise CredentialRefused(f"expired at {one.ends:%Y-%m-%d %H:%M:%S} UTC")
        if now < one.starts - SKEW:
            raise CredentialRefused(f"not valid before {one.starts:%Y-%m-%d %H:%M:%S} UTC")
        if one.targets is not None and self._host not in one.targets:
            raise CredentialRefused(f"it is meant for other hosts than {self._host}")
        server, *authorities = path = self._path(one)
        self._directory.check(one.vo, one.host, [link.dn for link in path])
        _check_use(path)
        parts = Chain(proxies=(), user=server, authorities=tuple(authorities))
        checked = chain.check(parts, now, self._policies, self._revocations, self._anchors)
        _check_signature(one, server)
        return min(one.ends, checked.lapses)

    def _path(self, one: AttributeCertificate) -> list[ChainLink]:
        """The certificates from the server's to a trust anchor's, each issued by the next.

        Signatures are verified from the anchor downwards, so that a key is used only after a CA's
        signature on it was verified: a key can be made so that verifying with it takes long.
        """
        server, *carried = map(certificates.load, one.certificates)
        if proxy.is_proxy(server) or not dn.same(server.subject, one.issuer):
            raise CredentialRefused("its first certificate is not that of its issuer")
        path = [server]
        while not path[-1].self_issued and len(path) < LONGEST:
            path.append(self._issuer(path[-1], carried))
        if len(path) < 2 or not path[-1].self_issued:
            raise CredentialRefused(f"no trusted CA has issued {server.dn}")
        self._anchors.check(path[-1])
        for link, authority in reversed(list(pairwise(path))):
            if not _issued(link, authority):
                raise CredentialRefused(f"{link.dn} was not issued by {authority.dn}")
        return path

    def _issuer(self, link: ChainLink, carried: Sequence[ChainLink]) -> ChainLink:
        """A CA of the directory that has issued it, or else a sent one with its issuer's name."""
        known = map(certificates.load, self._anchors.named(link.issuer_der))
        trusted = (one for one in known if _issued(link, one))
        sent = (one for one in carried if one.subject_der == link.issuer_der)
        found = next(chained(trusted, sent), None)
        if found is None:
            raise CredentialRefused(f"the CA {dn.oneline_rdns(link.issuer)} is not trusted")
        return found


def _check_use(path: Sequence[ChainLink]) -> None:
    """What OpenSSL checks in the chains of callers, and `chain.check` does not."""
    server, *authorities = path
    usage = server.extension(x509.KeyUsage)
    if usage and not usage.digital_signature:
        raise CredentialRefused(f"{server.dn} may not sign")
    for below, authority in enumerate(authorities):
        usage = authority.extension(x509.KeyUsage)
        constraints = authority.extension(x509.BasicConstraints)
        if usage and not usage.key_cert_sign:
            raise CredentialRefused(f"{authority.dn} may not sign certificates")
        if constraints and constraints.path_length is not None and below > constraints.path_length:
            raise CredentialRefused(f"too many CAs below {authority.dn}")
    for link in path:
        for extension in link.extensions:
            if extension.critical and not isinstance(extension.value, UNDERSTOOD):
                oid = extension.oid.dotted_string
                raise CredentialRefused(f"{link.dn} has the unknown critical extension {oid}")


def _check_signature(one: AttributeCertificate, server: ChainLink) -> None:
    key: Any = server.certificate.public_key()
    given = server.extension(x509.SubjectKeyIdentifier)
    derived = x509.SubjectKeyIdentifier.from_public_key(key)  # the one that VOMS makes
    if one.key_identifier not in [each.digest for each in (given, derived) if each is not None]:
        raise CredentialRefused("it was signed with another key than its issuer's")
    try:
        if isinstance(key, rsa.RSAPublicKey) and one.algorithm in RSA:
            key.verify(one.signature, one.signed, padding.PKCS1v15(), RSA[one.algorithm])
        elif isinstance(key, ec.EllipticCurvePublicKey) and one.algorithm in ELLIPTIC:
            key.verify(one.signature, one.signed, ec.ECDSA(ELLIPTIC[one.algorithm]))
        else:
            raise CredentialRefused(f"it is signed by {one.algorithm}, which is not good enough")
    except InvalidSignature as error:
        raise CredentialRefused("its signature is wrong") from error


def _issued(link: ChainLink, authority: ChainLink) -> bool:
    try:
        link.certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, *MALFORMED):
        return False
    return True

"""The identity behind a verified certificate chain, and the grid's rules for chains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from deliv.errors import CredentialRefused
from deliv.identity.x509 import certificates, dn, proxy
from deliv.identity.x509.anchors import Anchors
from deliv.identity.x509.certificates import ChainLink
from deliv.identity.x509.revocation import Revocations
from deliv.identity.x509.signing_policy import SigningPolicies

LONGEST_DN = 1000  # characters; the width of jobs.submitter


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """A caller's VOMS attributes: `fqans` of the `vos`, until the first of them `ends`, in UTC.

    `refused` says why others that the caller sent do not count.
    """

    fqans: tuple[str, ...] = ()
    vos: tuple[str, ...] = ()
    ends: datetime | None = None
    refused: str | None = None


NO_ATTRIBUTES = Attributes()


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The caller.

    `dn` is the user's, without proxy CNs, in the grid's one-line form; `subject` is that of the
    certificate presented. `not_after` is when the first certificate of the chain expires, in UTC,
    `lapses` when this result ends: with that, a CA's revocation list or an attribute.
    `ca_dn` is the user's CA. `thumbprint` is that of the certificate presented.
    """

    dn: str
    subject: str
    is_proxy: bool
    limited: bool
    not_after: datetime
    lapses: datetime
    ca_dn: str
    thumbprint: str
    attributes: Attributes = NO_ATTRIBUTES


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A chain by the roles of its certificates; proxies and CAs in order from the leaf upwards."""

    proxies: tuple[ChainLink, ...]
    user: ChainLink
    authorities: tuple[ChainLink, ...]

    @property
    def links(self) -> tuple[ChainLink, ...]:
        return (*self.proxies, self.user, *self.authorities)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A chain that was accepted: until when, and whether it has a limited proxy."""

    limited: bool
    lapses: datetime


ReadAttributes = Callable[[Chain, datetime], Attributes]


def identify(
    chain_der: Sequence[bytes],
    *,
    now: datetime,
    policies: SigningPolicies,
    revocations: Revocations | None = None,
    anchors: Anchors | None = None,
    read_attributes: ReadAttributes | None = None,
) -> Identity:
    """The identity behind a chain that OpenSSL verified, its leaf first, a trust anchor last.

    OpenSSL has checked signatures and issuers; what the grid requires beyond that is checked here,
    and CredentialRefused names the first rule that is broken.
    """
    chain = split(chain_der)
    checked = check(chain, now, policies, revocations, anchors)
    attributes = read_attributes(chain, now) if read_attributes else NO_ATTRIBUTES
    return Identity(
        dn=chain.user.dn,
        subject=chain.links[0].dn,
        is_proxy=bool(chain.proxies),
        limited=checked.limited,
        not_after=min(link.expires for link in chain.links),
        lapses=min(checked.lapses, attributes.ends or checked.lapses),
        ca_dn=dn.oneline_rdns(chain.user.issuer),
        thumbprint=certificates.thumbprint(chain_der[0]),
        attributes=attributes,
    )


def check(
    chain: Chain,
    now: datetime,
    policies: SigningPolicies,
    revocations: Revocations | None = None,
    anchors: Anchors | None = None,
) -> Checked:
    """CredentialRefused when a chain, whose signatures are verified, breaks a rule of the grid."""
    *intermediates, anchor = chain.authorities
    for link in chain.links:
        if now > link.expires:
            raise CredentialRefused(f"{link.dn} expired at {link.expires:%Y-%m-%d %H:%M:%S} UTC")
        starts = link.certificate.not_valid_before_utc
        if now < starts:
            raise CredentialRefused(f"{link.dn} is not valid before {starts:%Y-%m-%d %H:%M:%S} UTC")
    for link in chain.links:
        problem = certificates.key_problem(link.certificate)
        if problem is None and link is not anchor:  # whose own signature proves nothing
            problem = certificates.signature_problem(link.certificate)
        if problem is not None:
            raise CredentialRefused(f"{link.dn} is not accepted: {problem}")
    if chain.user.is_authority:
        raise CredentialRefused("a CA's certificate is not a user's")
    ambiguity = dn.ambiguity(chain.user.subject)
    if ambiguity is not None:
        raise CredentialRefused(f"a name that could be taken for another: {ambiguity}")
    if len(chain.user.dn) > LONGEST_DN:
        raise CredentialRefused(f"a name of more than {LONGEST_DN} characters")
    if not all(link.is_authority for link in intermediates):
        raise CredentialRefused("a certificate issued by one that is not a CA's")
    limited = proxy.check(chain.proxies, chain.user)
    if anchors is not None:
        anchors.check(anchor)
    policies.check(chain.user.issuer_der, chain.user.dn)
    for link in chain.authorities:  # a self-issued one is in its own namespace
        if not link.self_issued:
            policies.check(link.issuer_der, link.dn)
    ends = [link.expires for link in chain.links]
    if revocations is not None:
        lists_end = revocations.check((chain.user, *chain.authorities), now)
        ends += [lists_end] if lists_end is not None else []
    return Checked(limited=limited, lapses=min(ends))


def split(chain_der: Sequence[bytes]) -> Chain:
    """The parts of a chain; CredentialRefused when it does not have them."""
    links = tuple(map(certificates.load, chain_der))
    if not links:
        raise CredentialRefused("no certificate")
    proxies = tuple(takewhile(proxy.is_proxy, links))
    rest = links[len(proxies) :]
    if any(map(proxy.is_legacy, links[: len(proxies) + 1])):
        raise CredentialRefused("a legacy proxy, from before RFC 3820")
    if any(map(proxy.is_proxy, rest)):
        raise CredentialRefused("a proxy above a certificate that is not a proxy")
    if len(rest) < 2:
        raise CredentialRefused("no user certificate that a CA issued")
    return Chain(proxies=proxies, user=rest[0], authorities=rest[1:])

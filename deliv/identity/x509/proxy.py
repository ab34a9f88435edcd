"""RFC 3820: which proxy certificates are accepted for the user above them.

OpenSSL has verified the signatures. It accepts some proxies that Globus refuses (a full one below
a limited one, a proxyCertInfo that is not critical) and ignores policy languages, so all of the
rules are checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from deliv.errors import CredentialRefused
from deliv.identity.x509 import der, dn
from deliv.identity.x509.certificates import ChainLink

PROXY_CERT_INFO = "1.3.6.1.5.5.7.1.14"
DRAFT_PROXY_CERT_INFO = "1.3.6.1.4.1.3536.1.222"
INHERIT_ALL = "1.3.6.1.5.5.7.21.1"
INDEPENDENT = "1.3.6.1.5.5.7.21.2"
LIMITED = "1.3.6.1.4.1.3536.1.1.1.9"
LEGACY_NAMES = frozenset({b"proxy", b"limited proxy"})
MOST = 16  # proxies in one chain; real ones have a handful


@dataclass(frozen=True, kw_only=True)
class ProxyInfo:
    """A proxyCertInfo extension. `path_length` bounds the proxies below; None is no bound."""

    path_length: int | None
    language: str
    policy: bytes | None
    critical: bool


def is_proxy(link: ChainLink) -> bool:
    return link.has(PROXY_CERT_INFO)


def is_legacy(link: ChainLink) -> bool:
    """A proxy from before RFC 3820: Globus 2 (known by its name) or the draft (by its OID)."""
    if is_proxy(link) or link.has(DRAFT_PROXY_CERT_INFO):
        return link.has(DRAFT_PROXY_CERT_INFO)
    added = _added_common_name(link, link.issuer)
    return added is not None and added.value.lower() in LEGACY_NAMES


def check(proxies: Sequence[ChainLink], user: ChainLink) -> bool:
    """Whether the chain (its leaf first) is limited; CredentialRefused when a rule is broken."""
    if len(proxies) > MOST:
        raise CredentialRefused(f"more than {MOST} proxies above one another")
    usage = user.extension(x509.KeyUsage)
    if proxies and usage and not usage.digital_signature:
        raise CredentialRefused("a proxy of a certificate that may not sign")
    limited, issuer = False, user
    for below, proxy in reversed(list(enumerate(proxies))):  # from the user's to the leaf
        info = _check_proxy(proxy, issuer, below)
        issuer = proxy
        if limited and info.language != LIMITED:
            raise CredentialRefused("a full proxy below a limited one")
        limited = info.language == LIMITED
    return limited


def read_info(proxy: ChainLink) -> ProxyInfo:
    """The proxyCertInfo of a proxy; CredentialRefused when it is malformed.

    Source: RFC 3820, section 3.8 and appendix A.
    """
    (extension,) = (e for e in proxy.extensions if e.oid.dotted_string == PROXY_CERT_INFO)
    value = extension.value
    if not isinstance(value, x509.UnrecognizedExtension):
        raise CredentialRefused("a malformed proxyCertInfo")
    try:
        return parse_info(value.value, critical=extension.critical)
    except ValueError as error:
        raise CredentialRefused(f"a malformed proxyCertInfo: {error}") from error


def parse_info(encoding: bytes, *, critical: bool) -> ProxyInfo:
    """A proxyCertInfo from its DER; ValueError when it is malformed."""
    fields = list(der.elements(der.content(encoding, der.SEQUENCE)))
    path_length = None
    if fields and fields[0].tag == der.INTEGER:
        path_length = der.unsigned(fields.pop(0).content)
    if [field.tag for field in fields] != [der.SEQUENCE]:
        raise ValueError("not a path length and a policy")
    parts = list(der.elements(fields[0].content))
    tags = [part.tag for part in parts]
    if tags not in ([der.OBJECT_IDENTIFIER], [der.OBJECT_IDENTIFIER, der.OCTET_STRING]):
        raise ValueError("a policy that is not a language and a text")
    return ProxyInfo(
        path_length=path_length,
        language=der.object_identifier(parts[0].content),
        policy=parts[1].content if len(parts) > 1 else None,
        critical=critical,
    )


def _check_proxy(proxy: ChainLink, issuer: ChainLink, below: int) -> ProxyInfo:
    """The proxyCertInfo of a proxy that keeps the rules; `below` is how many are below it."""
    if _added_common_name(proxy, issuer.subject) is None:
        raise CredentialRefused("a proxy's subject is not its issuer's plus one CN")
    if proxy.is_authority:
        raise CredentialRefused("a proxy that claims to be a CA")
    if proxy.extension(x509.SubjectAlternativeName) or proxy.extension(x509.IssuerAlternativeName):
        raise CredentialRefused("a proxy with an alternative name")
    usage = proxy.extension(x509.KeyUsage)
    if usage and (usage.key_cert_sign or not usage.digital_signature):
        raise CredentialRefused("a proxy whose key usage is not that of a proxy")
    info = read_info(proxy)
    if not info.critical:
        raise CredentialRefused("a proxy whose proxyCertInfo is not critical")
    if info.language == INDEPENDENT:
        raise CredentialRefused("an independent proxy: it has no right of its user's")
    if info.language not in (INHERIT_ALL, LIMITED):
        raise CredentialRefused(f"a proxy with the unknown policy language {info.language}")
    if info.policy is not None:
        raise CredentialRefused("a proxy with a policy text where its language allows none")
    if info.path_length is not None and below > info.path_length:
        raise CredentialRefused(
            f"a proxy allows {info.path_length} proxies below itself and has {below}"
        )
    return info


def _added_common_name(link: ChainLink, base: dn.Name) -> dn.Attribute | None:
    """The one CN that the link's subject has beyond `base`; None when that isn't its form."""
    *above, last = link.subject or ((),)
    if len(last) != 1 or last[0].type != dn.COMMON_NAME:
        return None
    return last[0] if dn.same(tuple(above), base) else None

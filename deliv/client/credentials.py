"""Whose credential to use and whom to trust: options, then the grid's environment, then its files.

The certificate: X509_USER_PROXY, else X509_USER_CERT with X509_USER_KEY, else /tmp/x509up_uUID,
else ~/.globus/usercert.pem with userkey.pem. The CAs: X509_CERT_DIR, else
/etc/grid-security/certificates. Other variables, such as SSL_CERT_FILE, have no effect.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deliv.client.certificates import expiry
from deliv.client.errors import CredentialUnusable, SetupError

CA_DIRECTORY = Path("/etc/grid-security/certificates")


@dataclass(frozen=True, kw_only=True)
class CallerCredential:
    """Certificate (with its chain) and key; for a proxy both are the same file."""

    cert: Path
    key: Path


def find_credential(
    cert: str | None = None,
    key: str | None = None,
    environ: Mapping[str, str] = os.environ,
    home: Path | None = None,
) -> CallerCredential:
    """The credential to use; SetupError when there is none, or only half of one."""
    if key and not cert:
        raise SetupError("a key was given without its certificate: add --cert")
    if cert:
        return CallerCredential(cert=Path(cert), key=Path(key or cert))
    if proxy := environ.get("X509_USER_PROXY"):
        return CallerCredential(cert=Path(proxy), key=Path(proxy))
    user_cert, user_key = environ.get("X509_USER_CERT"), environ.get("X509_USER_KEY")
    if user_cert and user_key:
        return CallerCredential(cert=Path(user_cert), key=Path(user_key))
    if user_cert or user_key:
        raise SetupError("X509_USER_CERT and X509_USER_KEY must both be set, or neither")
    default = Path(f"/tmp/x509up_u{os.getuid()}")  # noqa: S108  where every grid tool puts it
    if default.exists():
        return CallerCredential(cert=default, key=default)
    globus = (home or Path.home()) / ".globus"
    if (globus / "usercert.pem").exists():
        return CallerCredential(cert=globus / "usercert.pem", key=globus / "userkey.pem")
    raise SetupError(
        "no grid credential: make a proxy (voms-proxy-init or grid-proxy-init), "
        "or name one with --cert and --key or X509_USER_PROXY"
    )


def find_ca(ca: str | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The directory of trusted CAs, or a file with their certificates."""
    return Path(ca or environ.get("X509_CERT_DIR") or CA_DIRECTORY)


def check_validity(credential: CallerCredential) -> None:
    """CredentialUnusable when the certificate can't be read or it, or its chain, has expired."""
    try:
        end = expiry(credential.cert.read_text("ascii", "replace"))
    except OSError as error:
        raise CredentialUnusable(f"{credential.cert}: {error.strerror}") from error
    except ValueError as error:
        raise CredentialUnusable(f"{credential.cert}: a broken certificate ({error})") from error
    if end is None:
        raise CredentialUnusable(f"{credential.cert} has no certificate in PEM form")
    if end <= datetime.now(UTC):
        raise CredentialUnusable(
            f"{credential.cert} expired on {end:%Y-%m-%d at %H:%M:%S} UTC: "
            "make a new proxy, or renew the certificate"
        )


def tls_context(credential: CallerCredential, ca: Path) -> ssl.SSLContext:
    """Verifies the server's chain and host name, presents the credential; nothing by default."""
    check_validity(credential)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not ca.exists():
        raise SetupError(f"there is no {ca}: name the CA directory with --ca or X509_CERT_DIR")
    try:
        if ca.is_dir():
            context.load_verify_locations(capath=ca)
        else:
            context.load_verify_locations(cafile=ca)
    except OSError as error:
        raise SetupError(f"{ca}: no CA certificates can be read from it: {error}") from error
    try:
        context.load_cert_chain(credential.cert, credential.key)
    except OSError as error:
        message = f"{credential.cert} with the key {credential.key} can't be used: {error}"
        if isinstance(error, ssl.SSLError):  # both files could be read
            if "PRIVATE KEY-----" not in credential.key.read_text("ascii", "replace"):
                message = (
                    f"{credential.key} has no private key: name the file that has it with --key"
                )
        raise CredentialUnusable(message) from error
    return context

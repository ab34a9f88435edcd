"""What a failed TLS connection means, in words.

Under TLS 1.3 a server may refuse our certificate when our side has finished the handshake already:
the alert comes with the first read. A server that closes at once may take the alert with it.
"""

from __future__ import annotations

import ssl

from deliv.client.errors import ClientError, CredentialRefused, ServerNotTrusted, Unreachable

HOSTNAME_MISMATCH, IP_MISMATCH = 62, 64
EXPIRED, NOT_YET_VALID, REVOKED = 10, 9, 23
ALERTS = {
    "CERTIFICATE_REQUIRED": "it requires a certificate and got none",
    "UNKNOWN_CA": "it does not trust the CA that issued yours",
    "CERTIFICATE_EXPIRED": "it says yours has expired",
    "CERTIFICATE_REVOKED": "it says yours was revoked",
    "CERTIFICATE_UNKNOWN": "it can't accept yours",
    "UNSUPPORTED_CERTIFICATE": "it does not take this kind of certificate",
    "BAD_CERTIFICATE": "it finds yours faulty",
    "ACCESS_DENIED": "it denies access",
    "DECRYPT_ERROR": "a signature in yours does not fit",
    "HANDSHAKE_FAILURE": "it has no TLS version, cipher or signature algorithm in common with us",
}
CHECK = (
    "Check that your proxy or certificate is still valid (openssl x509 -in FILE -noout -enddate), "
    "was not revoked, comes from a CA that the server trusts, and is no limited proxy"
)


def explain(error: OSError, server: str, ca: object) -> ClientError:
    """The error to raise for a connection that failed before its first answer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = f"its CA must be among those in {ca} (--ca, X509_CERT_DIR)"
        if error.verify_code in {HOSTNAME_MISMATCH, IP_MISMATCH}:
            remedy = "use the name that is in its certificate"
        elif error.verify_code in {EXPIRED, NOT_YET_VALID, REVOKED}:
            remedy = "its operators must renew it (or the clock here is wrong)"
        return ServerNotTrusted(f"{server} is not trusted: {error.verify_message}; {remedy}")
    if isinstance(error, ssl.SSLError):
        _, found, alert = (error.reason or "").partition("ALERT_")
        if found and alert in ALERTS:
            return CredentialRefused(f"{server} refused the credential: {ALERTS[alert]}. {CHECK}.")
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return Unreachable(
            f"{server} closed the connection without an answer. If it does so every time, it may "
            f"be refusing your credential. {CHECK}."
        )
    if isinstance(error, TimeoutError):
        return Unreachable(f"{server} did not answer in time")
    return Unreachable(f"{server} can't be reached: {error.strerror or error}")

"""What a failed TLS connection or an HTTP status means to a caller."""

from __future__ import annotations

import ssl

import pytest

from deliv.client import (
    ClientError,
    CredentialRefused,
    NotFound,
    PermissionRefused,
    Rejected,
    ServerNotTrusted,
    Unavailable,
    Unreachable,
)
from deliv.client.errors import answered
from deliv.client.tls_errors import explain


def ssl_error(kind: type[ssl.SSLError], reason: str) -> ssl.SSLError:
    error = kind(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "kind", "wanted"),
    [
        (
            ssl_error(ssl.SSLError, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
            CredentialRefused,
            "got none",
        ),
        (ssl_error(ssl.SSLError, "TLSV1_ALERT_UNKNOWN_CA"), CredentialRefused, "CA that issued"),
        (ssl_error(ssl.SSLError, "SSLV3_ALERT_CERTIFICATE_EXPIRED"), CredentialRefused, "expired"),
        (ssl_error(ssl.SSLError, "SSLV3_ALERT_CERTIFICATE_REVOKED"), CredentialRefused, "revoked"),
        (
            ssl_error(ssl.SSLEOFError, "UNEXPECTED_EOF_WHILE_READING"),
            Unreachable,
            "may be refusing",
        ),
        (ConnectionResetError(104, "Connection reset by peer"), Unreachable, "may be refusing"),
        (ConnectionRefusedError(111, "Connection refused"), Unreachable, "Connection refused"),
        (TimeoutError("timed out"), Unreachable, "in time"),
    ],
)
def test_a_failed_connection_is_explained(
    error: OSError, kind: type[ClientError], wanted: str
) -> None:
    explained = explain(error, "https://deliv.test", "/ca")
    assert type(explained) is kind
    assert wanted in str(explained)
    assert "https://deliv.test" in str(explained)


@pytest.mark.parametrize(
    ("code", "wanted"), [(62, "name that is in"), (10, "operators"), (20, "X509_CERT_DIR")]
)
def test_a_server_that_is_not_trusted_is_explained(code: int, wanted: str) -> None:
    error = ssl.SSLCertVerificationError(1, "verify failed")
    error.verify_code, error.verify_message = code, "the reason"
    explained = explain(error, "https://deliv.test", "/ca")
    assert isinstance(explained, ServerNotTrusted)
    assert wanted in str(explained)
    assert "the reason" in str(explained)


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (400, Rejected, 2),
        (403, PermissionRefused, 3),
        (404, NotFound, 5),
        (422, Rejected, 2),
        (429, Unavailable, 4),
        (500, Unavailable, 4),
        (503, Unavailable, 4),
    ],
)
def test_answers_become_errors(status: int, kind: type[ClientError], exit_code: int) -> None:
    error = answered(status, "the reason", None)
    assert type(error) is kind
    assert (error.status, error.exit_code) == (status, exit_code)
    assert "the reason" in str(error)

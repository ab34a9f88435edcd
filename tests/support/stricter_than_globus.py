"""Credentials that a GridFTP server takes and deliv refuses, and why.

tests/integration/test_tls_gridftp.py holds this against a real server: whatever is not named here,
both take or both refuse.
"""

from __future__ import annotations

STRICTER = {
    # What Globus takes as anonymous, or leaves to the mapping.
    "no certificate": "a certificate is required",
    "a name that is too long": "jobs.submitter holds 1000 characters",
    # Names of which X509_NAME_oneline, which Globus decides by, prints the same for two people.
    "a name with a backslash": "ambiguous",
    "a name that writes an escape": "ambiguous",
    "a name in CJK that reads as ASCII": "ambiguous",
    "a name with a NUL": "ambiguous",
    "a name in Latin-1 that reads as UTF-8": "ambiguous",
    # Rules of RFC 3820 and RFC 5280 that Globus does not look at.
    "a server's certificate": "its extended key usage has no client authentication",
    "a proxy whose subject differs in case": "RFC 3820, section 3.4",
    "an independent proxy": "RFC 3820, section 3.8.2: none of its user's rights",
    "a proxy with an unknown language": "RFC 3820, section 3.8.2",
    "a proxy of a proxy with an unknown language": "RFC 3820, section 3.8.2",
    "a proxy that may sign certificates": "RFC 3820, section 3.6",
    "a proxy that may not sign": "RFC 3820, section 3.6",
    # Bounds and choices of deliv's own.
    "a proxy seventeen deep": "no more than 16",
    "a proxy with a public exponent as long as its modulus": "verifying with it takes too long",
    "a user with a public exponent as long as the modulus": "verifying with it takes too long",
    "a proxy with a modulus above 8192 bits": "verifying with it takes too long",
    "a CA without CRL": "hard revocation checking is the default; soft takes it",
}

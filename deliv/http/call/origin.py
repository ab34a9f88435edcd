"""Requests that a web page of another site has a browser send (CSRF).

A browser shows its user's certificate to whatever asks for one, and sends with each request where
the page came from: `Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin` (RFC 6454). Programs send
neither. Methods that only read are not checked: no page of another site can see the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from deliv.errors import Forbidden

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, section 9.2.1
OWN_SITE = frozenset({"same-origin", "none"})  # "none": the user asked for it, by no page
DEFAULT_PORTS = {"https": 443, "http": 80}
SHOWN = 200  # characters of a header


class CrossSite(Forbidden):
    pass


def check(method: str, headers: Mapping[str, str], public_url: str) -> None:
    """CrossSite when another site's page sends a method that may change something."""
    if method in SAFE:
        return
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None and site not in OWN_SITE:
        header = f"Sec-Fetch-Site: {site}"
    elif origin is not None and (_origin(origin) or origin) != _origin(public_url):
        header = f"Origin: {origin}"
    else:
        return
    raise CrossSite(
        f"a web page of another site sent this ({header[:SHOWN]}): only pages of {public_url} may, "
        "and programs, which send neither Origin nor Sec-Fetch-Site"
    )


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what is not an origin, as `null`."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None or "@" in parts.netloc or parts.path.strip("/"):
        return None
    return parts.scheme, parts.hostname, port

"""The headers of answers, and the limits on those of requests.

After OWASP's REST Security Cheat Sheet: nothing may be cached, sniffed, framed or loaded from
another site, and the service speaks TLS only. Answers do not name the software or its version.
"""

from __future__ import annotations

from tornado.httputil import HTTPServerRequest

from deliv.http.call.errors import HeadTooLarge, UriTooLong

JSON = "application/json; charset=UTF-8"
SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
LONGEST_URI = 8000  # RFC 9110, section 4.1, asks for no less
SEPARATORS = len(": \r\n")


def check_size(request: HTTPServerRequest, limit: int) -> None:
    """UriTooLong; HeadTooLarge when the header's lines have more than about `limit` bytes."""
    if len(request.uri or "") > LONGEST_URI:
        raise UriTooLong(f"the URL is longer than {LONGEST_URI} characters")
    lines = request.headers.get_all()
    if sum(len(name) + len(value) + SEPARATORS for name, value in lines) > limit:
        raise HeadTooLarge(f"the header is larger than {limit} bytes")

"""Logging in to a GridFTP server over its control channel, as a GSI client does (RFC 2228).

TLS records travel as base64 in ADAT commands. Only whether the server takes the certificates is
of interest here, so the client checks nothing of the server's.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
from typing import BinaryIO

TIMEOUT = 60.0
NO_DELEGATION = b"0"  # what a client sends after the handshake when it delegates nothing


def login(port: int, context: ssl.SSLContext) -> str:
    """The server's answer to an attempt to log in: it starts with 235 when it took us."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection,
        connection.makefile("rb") as replies,
    ):
        answer = _reply(replies)
        connection.sendall(b"AUTH GSSAPI\r\n")
        answer = _reply(replies)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        while answer.startswith("3"):
            _advance(tls)
            connection.sendall(b"ADAT " + base64.b64encode(outgoing.read()) + b"\r\n")
            answer = _reply(replies)
            token = re.search(r"ADAT=(\S+)", answer)
            incoming.write(base64.b64decode(token[1]) if token else b"")
        return answer


def lax_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _advance(tls: ssl.SSLObject) -> None:
    """As far as what has come in allows."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return
    tls.write(NO_DELEGATION)


def _reply(replies: BinaryIO) -> str:
    """One reply, which may have several lines."""
    lines = [replies.readline()]
    while lines[-1] and not re.match(rb"\d{3} ", lines[-1]):
        lines.append(replies.readline())
    return b"".join(lines).decode(errors="replace")

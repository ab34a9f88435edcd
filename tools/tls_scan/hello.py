"""TLS on the wire, as far as a scan needs it: any ClientHello, and what the server says to it.

Made by hand, since OpenSSL would not offer what a scan has to offer. Numbers are IANA's ("TLS
Parameters", "TLS ExtensionType Values"); the layout is that of RFC 5246 and RFC 8446.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

SSL3, TLS1_0, TLS1_1, TLS1_2, TLS1_3 = 0x0300, 0x0301, 0x0302, 0x0303, 0x0304
ALERT, HANDSHAKE = 21, 22
SERVER_HELLO = 2
SERVER_NAME, GROUPS, POINTS, SIGNATURES, HEARTBEAT = 0, 10, 11, 13, 15
TICKET, VERSIONS, KEY_SHARE, RENEGOTIATION = 35, 43, 51, 0xFF01
X25519 = 29
ALL_GROUPS = (X25519, 23, 24, 25, 30)
ALL_SIGNATURES = (0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0201)
FALLBACK_SCSV = 0x5600
# Every number in the ranges that hold suites, of which a server knows few.
OLD_SUITES = (*range(0x0001, 0x00FF), *range(0xC001, 0xC100), *range(0xCCA8, 0xCCAF))
NEW_SUITES = tuple(range(0x1301, 0x1306))
# A hello of SSL 2.0 that offers its seven suites.
SSL2_HELLO = bytes.fromhex(
    "802e0100020015000000100100800200800300800400800500800600400700c0"
) + bytes(16)


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What a client offers."""

    version: int
    suites: Sequence[int]
    compressions: Sequence[int] = (0,)
    groups: Sequence[int] = ALL_GROUPS
    signatures: Sequence[int] = ALL_SIGNATURES
    heartbeat: bool = False
    ticket: bool = False

    def encode(self) -> bytes:
        session = os.urandom(32) if self.version >= TLS1_3 else b""
        body = _u16(min(self.version, TLS1_2)) + os.urandom(32) + _sized(session, 1)
        body += _sized(b"".join(map(_u16, self.suites)), 2) + _sized(bytes(self.compressions), 1)
        if self.version > SSL3:
            body += _sized(self._extensions(), 2)
        message = b"\x01" + _sized(body, 3)
        return bytes([HANDSHAKE]) + _u16(min(self.version, TLS1_0)) + _sized(message, 2)

    def _extensions(self) -> bytes:
        name = b"\0" + _sized(b"localhost", 2)
        made = _extension(SERVER_NAME, _sized(name, 2))
        made += _extension(GROUPS, _sized(b"".join(map(_u16, self.groups)), 2))
        made += _extension(POINTS, _sized(b"\0", 1))
        made += _extension(SIGNATURES, _sized(b"".join(map(_u16, self.signatures)), 2))
        made += _extension(RENEGOTIATION, b"\0")
        made += _extension(HEARTBEAT, b"\1") if self.heartbeat else b""
        made += _extension(TICKET, b"") if self.ticket else b""
        if self.version >= TLS1_3:
            share = _u16(X25519) + _sized(os.urandom(32), 2)
            made += _extension(VERSIONS, _sized(_u16(TLS1_3), 1))
            made += _extension(KEY_SHARE, _sized(share, 2))
        return made


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server chose, or why it did not: `alert` -1 is a connection that just ended."""

    version: int = 0
    suite: int = 0
    compression: int = 0
    session: bytes = b""
    extensions: frozenset[int] = frozenset()
    alert: int | None = None


def ask(address: tuple[str, int], said: bytes, timeout: float) -> Answer:
    """Say this to a server; its first answer."""
    with socket.create_connection(address, timeout) as plain:
        plain.sendall(said)
        plain.shutdown(socket.SHUT_WR)
        try:
            return _answer(plain)
        except (EOFError, ConnectionError):
            return Answer(alert=-1)


def _answer(plain: socket.socket) -> Answer:
    kind, *_ = head = _read(plain, 5)
    content = _read(plain, int.from_bytes(head[3:5]))
    if kind == ALERT:
        return Answer(alert=content[1])
    if kind != HANDSHAKE or content[0] != SERVER_HELLO:
        raise EOFError
    return _server_hello(content[4:])


def _server_hello(body: bytes) -> Answer:
    version, end = int.from_bytes(body[:2]), 35 + body[34]
    session, rest = body[35:end], body[end:]
    extensions = dict(_extensions(rest[5:]))
    if VERSIONS in extensions:
        version = int.from_bytes(extensions[VERSIONS])
    return Answer(
        version=version,
        suite=int.from_bytes(rest[:2]),
        compression=rest[2],
        session=b"" if version >= TLS1_3 else session,  # there it is only an echo
        extensions=frozenset(extensions),
    )


def _extensions(encoded: bytes) -> list[tuple[int, bytes]]:
    found = []
    while encoded:
        kind, size = int.from_bytes(encoded[:2]), int.from_bytes(encoded[2:4])
        found.append((kind, encoded[4 : 4 + size]))
        encoded = encoded[4 + size :]
    return found


def _read(plain: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        more = plain.recv(size - len(content))
        if not more:
            raise EOFError
        content += more
    return content


def _u16(number: int) -> bytes:
    return number.to_bytes(2)


def _sized(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width) + content


def _extension(kind: int, content: bytes) -> bytes:
    return _u16(kind) + _sized(content, 2)

"""A TCP proxy before MariaDB that breaks a connection at its COMMIT."""

from __future__ import annotations

import contextlib
import socket
import threading
from enum import Enum

COMMIT = b"\x07\x00\x00\x00\x03COMMIT"  # a packet of 7 bytes: COM_QUERY and the text
CHUNK = 65536


class Cut(Enum):
    BEFORE = "the server never sees COMMIT"
    AFTER = "the server commits, the client does not learn it"
    LATE = "the client loses its connection, the server sees COMMIT when `late` is set"


class Proxy:
    """`arm` makes the next COMMIT the one to cut; everything else passes."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._armed: list[Cut] = []
        self.cuts = 0
        self.late = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def arm(self, *cuts: Cut) -> None:
        """One cut for each of the COMMITs to come."""
        self._armed = list(cuts)

    def close(self) -> None:
        self.late.set()
        _close(self._listener)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK):
                if data == COMMIT and self._armed:
                    self._cut(self._armed.pop(0), client, server)
                    return
                server.sendall(data)
        _close(client, server)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK):
                client.sendall(data)
        _close(client, server)

    def _cut(self, cut: Cut, client: socket.socket, server: socket.socket) -> None:
        """Where COMMIT is passed on, the answer to it ends `_down`, which closes both."""
        self.cuts += 1
        client.shutdown(socket.SHUT_RDWR)
        if cut is Cut.BEFORE:
            _close(client, server)
            return
        if cut is Cut.LATE:
            self.late.wait(30)
        server.sendall(COMMIT)


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()

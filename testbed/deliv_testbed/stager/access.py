"""Who may use the stager, and which addresses it calls back."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from deliv.errors import Forbidden


class Access:
    """`clients` are DNs, `callbacks` beginnings of URLs. What is not named is refused."""

    def __init__(self, clients: Collection[str], callbacks: Collection[str]) -> None:
        self._clients = frozenset(clients)
        self._callbacks = tuple(callbacks)

    def admit(self, dn: str | None) -> None:
        """Forbidden when this caller may not use the stager."""
        if dn not in self._clients:
            raise Forbidden(f"{dn or 'a caller without a certificate'} may not use this stager")

    def admit_callback(self, url: str) -> None:
        """Forbidden when this address is not one to call back."""
        if not any(begins_with(url, beginning) for beginning in self._callbacks):
            raise Forbidden(f"{url} is not an address that this stager calls back")


def begins_with(url: str, beginning: str) -> bool:
    """Whether both (valid) URLs name one server, and the path of one begins with the other's."""
    one, other = urlsplit(url), urlsplit(beginning)
    server = (other.scheme, other.hostname, other.port)
    return (one.scheme, one.hostname, one.port) == server and one.path.startswith(other.path)

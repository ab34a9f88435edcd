"""The issuer's settings: one JSON file, every key named here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from deliv_testbed.settings import ServerSettings


class Client(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may have tokens: the subject DN of its certificate, what for, and for whom."""

    dn: str
    scopes: tuple[str, ...]
    audiences: tuple[str, ...]


class IssuerSettings(ServerSettings, frozen=True, kw_only=True):
    """`issuer` is its own URL, `state` a directory for the keys.

    Tokens are valid for `lifetime` seconds. A key signs for `rotate_every` seconds, and is
    published as long as a token that it signed may be valid. SIGHUP changes the key at once.
    """

    issuer: str
    state: Path
    clients: Mapping[str, Client]
    lifetime: int = 300
    rotate_every: int = 86400

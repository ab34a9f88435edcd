"""The issuer's settings: one JSON file, every key named here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from deliv_testbed import settings


class Client(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may have tokens: the subject DN of its certificate, what for, and for whom."""

    dn: str
    scopes: tuple[str, ...]
    audiences: tuple[str, ...]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Listens on `host` and `port` with `certificate` and `key`; trusts the CAs in `ca_directory`.

    `issuer` is its own URL. `state` is a directory for the keys. Tokens live for `lifetime`; a key
    signs for `rotate_every`, and stays published while a token of its may be valid; in seconds.
    SIGHUP changes the key at once.
    """

    host: str
    port: int
    certificate: Path
    key: Path
    ca_directory: Path
    issuer: str
    state: Path
    clients: Mapping[str, Client]
    lifetime: int = 300
    rotate_every: int = 86400


def load(path: Path) -> Settings:
    return settings.read(path, Settings)

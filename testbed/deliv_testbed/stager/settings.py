"""The dummy stager's settings: one JSON file, every key named here."""

from __future__ import annotations

from pathlib import Path

import msgspec

from deliv_testbed.settings import ServerSettings


class TokenSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where access tokens come from, `url` being the issuer's token endpoint, and what for."""

    url: str
    client_id: str
    scope: str
    audience: str


class StagerSettings(ServerSettings, frozen=True, kw_only=True):
    """Who may use it, and where it copies.

    `clients` are the DNs that may use it, `callbacks` the beginnings of the URLs it may be asked to
    call. `archive_root` holds the products and products.json (see archive.py). Copies go to
    `staging_directory`, which the GridFTP server `gridftp` (HOST:PORT) shows as `staging_path`.
    `client_certificate` and `client_key` authenticate the callbacks. `copies` and `calls` bound
    what runs at once. With `token` an access token goes with each callback. A request is refused
    when all copies, those asked for included, would have more bytes than `capacity`.
    """

    clients: tuple[str, ...]
    callbacks: tuple[str, ...]
    client_certificate: Path
    client_key: Path
    archive_root: Path
    gridftp: str
    staging_directory: Path
    staging_path: str
    state_directory: Path
    copies: int = 2
    calls: int = 16
    capacity: int | None = None
    token: TokenSettings | None = None

"""The dummy stager's settings: one JSON file, every key named here."""

from __future__ import annotations

from pathlib import Path

import msgspec

from deliv.errors import ConfigError


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Listens on `host` and `port` with `certificate` and `key`; trusts the CAs in `ca_directory`.

    `archive_root` holds the products and products.json (see archive.py). Copies go to
    `staging_directory`, which the GridFTP server `gridftp` (HOST:PORT) shows as `staging_path`.
    `client_certificate` and `client_key` authenticate the callbacks. `copies` and `calls` bound
    what goes on at once.
    """

    host: str
    port: int
    certificate: Path
    key: Path
    ca_directory: Path
    client_certificate: Path
    client_key: Path
    archive_root: Path
    gridftp: str
    staging_directory: Path
    staging_path: str
    state_directory: Path
    copies: int = 2
    calls: int = 16


def load(path: Path) -> Settings:
    """Read the settings; ConfigError says what is wrong with which key."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Settings, dec_hook=_decode)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def _decode(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)

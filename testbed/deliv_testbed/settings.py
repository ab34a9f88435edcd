"""The settings of the stack's own servers: a JSON file for each, typed, unknown keys refused."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from deliv.errors import ConfigError


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a server listens and with what; `ca_directory` has the CAs that it trusts."""

    host: str
    port: int
    certificate: Path
    key: Path
    ca_directory: Path


Settings = TypeVar("Settings", bound=ServerSettings)


def read(path: Path, kind: type[Settings]) -> Settings:
    """Read the settings; ConfigError says what is wrong with which key."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind, dec_hook=_decode)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def _decode(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)

"""Which VOMS servers are trusted for which VO: the files VO/HOST.lsc of one directory.

A file has the names of the server's certificate and of the CAs above it, one a line, as many as
the site wants to have checked, but at least the server's and its CA's:

    /DC=org/DC=example/CN=voms.example.org
    /DC=org/DC=example/CN=Example CA
    ------ NEXT CHAIN ------
    /DC=org/DC=example/CN=voms.example.org
    /DC=org/DC=example/CN=Example CA 2

Some files name each certificate's subject and issuer in turn, so that a CA is named twice.

Source: https://github.com/italiangrid/voms, src/api/ccapi/api_util.cc, check_from_file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from deliv.errors import ConfigError, CredentialRefused
from deliv.identity.files import Parsed

LARGEST = 2**16  # octets in one file
SYNONYMS = (
    (re.compile(r"/(?:E|Email|EMAIL)="), "/emailAddress="),
    (re.compile("/USERID="), "/UID="),
)

Names = tuple[str, ...]


class Vomsdir:
    """The LSC files of a directory, read again when they change."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: Parsed[tuple[Names, ...]] = Parsed(parse)

    def check(self, vo: str, host: str, path: Sequence[str]) -> None:
        """CredentialRefused unless a server with these names is one of the VO.

        `path` begins with the server's own name and ends with that of its trust anchor. `vo` and
        `host` are names of a directory and of a file, and nothing else.
        """
        try:
            chains = self._files.get(self._directory / vo / f"{host}.lsc")
        except ValueError as error:
            raise CredentialRefused(f"the LSC file of {host} is broken: {error}") from error
        if chains is None:
            raise CredentialRefused(f"there is no LSC file of its server {host}")
        names = tuple(map(_normal, path))
        if not any(names[: len(chain)] == chain for chain in chains):
            raise CredentialRefused(
                f"{path[0]} and its CAs are not those of the LSC file of {host}"
            )


def load(path: Path) -> tuple[Names, ...]:
    """The chains of names in an LSC file; ConfigError when it is none."""
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(content: bytes) -> tuple[Names, ...]:
    """The chains of names in an LSC file; ValueError when it is malformed."""
    if len(content) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    lines = [line.strip().strip('"') for line in content.decode("ascii").splitlines()]
    used = [line for line in lines if line and not line.startswith("#")]
    chains = [
        tuple(_normal(name) for name, _ in groupby(group))
        for between, group in groupby(used, key=lambda line: line.startswith("-"))
        if not between
    ]
    for chain in chains:
        if len(chain) < 2 or not all(name.startswith("/") for name in chain):
            raise ValueError("expected the names of a server and of its CA, a line each")
    if not chains:
        raise ValueError("no names")
    return tuple(chains)


def _normal(name: str) -> str:
    """A name with the attribute types that OpenSSL prints today."""
    for old, new in SYNONYMS:
        name = old.sub(new, name)
    return name

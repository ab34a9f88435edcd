"""Private keys at rest: encrypted by AES-256-GCM with a key from a file.

A sealed key is bound to a context, the delegation that it belongs to: in another row it can't be
opened. The file has a key on each line, 32 bytes in base64. The first one seals and all of them
open, so that keys can be changed without losing what an older one has sealed.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from deliv import config
from deliv.errors import ConfigError, DelivError

KEY_BYTES = 32
NONCE_BYTES = 12  # random: safe for 2^32 seals by one key (NIST SP 800-38D)
NAME_BYTES = 4  # of the hash of a key, stored with what it sealed to find the key


class SealBroken(DelivError):
    """A sealed key is damaged, belongs elsewhere, or was sealed by one that is not in the file."""


class KeySealer:
    def __init__(self, keys: Sequence[bytes]) -> None:
        """ValueError unless there is at least one key, each of 32 bytes."""
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"expected keys of {KEY_BYTES} bytes")
        self._ciphers = {_name(key): AESGCM(key) for key in keys}
        self._current = _name(keys[0])

    @classmethod
    def load(cls, path: Path) -> KeySealer:
        """From a file of keys; ConfigError when it is none."""
        try:
            lines = config.secret(path).split()
            return cls([base64.b64decode(line, validate=True) for line in lines])
        except ValueError as error:
            expected = f"expected {KEY_BYTES} random bytes in base64 on each line"
            raise ConfigError(f"{path}: {expected}") from error

    def seal(self, secret: bytes, context: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, secret, context.encode())
        return self._current + nonce + sealed

    def open(self, sealed: bytes, context: str) -> bytes:
        """The secret; SealBroken when it can't be opened."""
        name, rest = sealed[:NAME_BYTES], sealed[NAME_BYTES:]
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise SealBroken("sealed with a key that is not in the file any more")
        try:
            return cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError) as error:
            raise SealBroken("damaged, or sealed for something else") from error


def _name(key: bytes) -> bytes:
    return hashlib.sha256(b"deliv vault key" + key).digest()[:NAME_BYTES]

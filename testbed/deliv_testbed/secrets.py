"""Secrets of the local services: made at random, each in a file of its own."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

from deliv_testbed.accounts import Account


def write(path: Path, account: Account) -> None:
    """A new password in a file that only `account` (and root) can read."""
    _write(path, account, secrets.token_hex(16))


def write_key(path: Path, account: Account) -> None:
    """A new key of 32 bytes, in base64, likewise."""
    _write(path, account, base64.b64encode(secrets.token_bytes(32)).decode())


def _write(path: Path, account: Account, secret: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    account.own(path.parent)
    path.touch(mode=0o600)
    path.write_text(secret, encoding="ascii")
    account.own(path)

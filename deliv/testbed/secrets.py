"""Passwords of the local services: made at random, each in a file of its own."""

from __future__ import annotations

import secrets
from pathlib import Path

from deliv.testbed.accounts import Account


def write(path: Path, account: Account) -> None:
    """A new password in a file that only `account` (and root) can read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    account.own(path.parent)
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(16), encoding="ascii")
    account.own(path)

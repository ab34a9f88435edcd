"""How RabbitMQ stores a password."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

SALT = 4  # bytes


def password_hash(password: str, account: str) -> str:
    """The salted SHA-256 of a password, as definition files hold it.

    The salt is derived from the account's name, so that an unchanged password has the same hash.
    https://www.rabbitmq.com/docs/passwords#computing-password-hash
    """
    salt = hashlib.sha256(account.encode()).digest()[:SALT]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"rabbitmq_password_hash": password_hash}

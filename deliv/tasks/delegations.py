"""Delegated credentials: users are notified before one expires, and keys wiped after."""

from __future__ import annotations

from deliv.delivery.delegation import CredentialDelegation
from deliv.tasks.leases import Lease


class DelegationJanitor:
    def __init__(self, delegation: CredentialDelegation, lease: Lease) -> None:
        self._delegation = delegation
        self._lease = lease

    async def care_once(self) -> int:
        """How many credentials their users were notified of, or keys wiped."""
        notified = await self._delegation.notify_expiring()
        fence = self._lease.fence()
        return notified + (await self._delegation.wipe_expired(fence) if fence else 0)

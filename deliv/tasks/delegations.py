"""What has to be done about the credentials that users have delegated: told of, and wiped."""

from __future__ import annotations

from deliv.delivery.delegation import CredentialDelegation
from deliv.tasks.leases import Lease


class DelegationJanitor:
    def __init__(self, delegating: CredentialDelegation, lease: Lease) -> None:
        self._delegating = delegating
        self._lease = lease

    async def care_once(self) -> int:
        """How many users were told and keys wiped."""
        told = await self._delegating.tell_once()
        fence = self._lease.fence()
        return told + (await self._delegating.wipe_once(fence) if fence else 0)

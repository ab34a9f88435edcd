"""The lease of one piece of periodic work, as one instance sees it."""

from __future__ import annotations

from deliv.store import Fence, Store


class Lease:
    """`ttl` in seconds: who does not renew it for so long has lost it."""

    def __init__(self, store: Store, name: str, owner: str, ttl: float) -> None:
        self._store = store
        self._name = name
        self._owner = owner
        self._ttl = ttl
        self._fence: Fence | None = None

    async def held(self) -> bool:
        """Acquire or renew it; whether it is ours."""
        number = await self._store.lease(self._name, self._owner, self._ttl)
        if number is None:
            self._fence = None
            return False
        self._fence = Fence(name=self._name, owner=self._owner, number=number)
        return True

    def fence(self) -> Fence | None:
        """What changes under this lease are to name; None when it was not ours at the last look."""
        return self._fence

"""Users' own identity: they delegate a credential to deliv as they would to FTS, which see.

The key is made here and stays here, sealed; what the user signs is a proxy for it. Until it expires
their transfers are copied with it, as the policy has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog

from deliv import config
from deliv.errors import Forbidden, InvalidRequest, LostRace, NoCredential
from deliv.gateways.https import HeldCredential
from deliv.identity import delegated
from deliv.identity.delegated import Identify
from deliv.identity.policy_rules import CopyAs
from deliv.identity.sealing import KeySealer, SealBroken
from deliv.model.job import Delegation, TransferIdentity, delegation_id
from deliv.store import Delegations, Fence

log = structlog.get_logger()

PATIENCE = 3600.0  # seconds that a request waits for its proxy
NOTIFIED_AT_ONCE = 100
HOW = "delegate a credential with the FTS client: fts-rest-delegate -s https://THIS-SERVICE"


class CredentialDelegation:
    def __init__(
        self, delegations: Delegations, sealer: KeySealer, settings: config.DelegationSettings
    ) -> None:
        self._delegations = delegations
        self._sealer = sealer
        self._least_life = timedelta(seconds=settings.least_life)
        self._warn_below = timedelta(seconds=settings.warn_below)
        self._making = asyncio.Lock()

    async def held(self, dn: str) -> Delegation | None:
        """What the user has delegated and has not expired."""
        known = await self._delegations.find(delegation_id(dn))
        return known if known is not None and _left(known) > timedelta(0) else None

    async def request(self, dn: str) -> str:
        """A certificate request in PEM; the same one until its proxy comes."""
        async with self._making:  # one at a time: keys cost computing time
            known = await self._delegations.find(delegation_id(dn))
            if known is None or known.request is None:
                request, key = await asyncio.to_thread(delegated.new_request)
                sealed = self._sealer.seal(key, _context(dn))
                known = await self._delegations.keep_request(delegation_id(dn), dn, request, sealed)
        return known.request or ""

    async def accept(
        self, dn: str, body: bytes, presented: Sequence[bytes], identify: Identify
    ) -> datetime:
        """Take a proxy in, PEM with its chain; when it ends.

        `presented` is the caller's verified chain, see delegated.check. InvalidRequest or
        CredentialRefused when the proxy is no good.
        """
        proxy = delegated.read(body)
        expires = delegated.check(proxy, presented, dn, identify)
        known = await self._delegations.find(delegation_id(dn))
        sealed = (known.request_key, known.proxy_key) if known else ()
        key = next((one for one in sealed if one and self._fits(one, dn, proxy)), None)
        if known is None or key is None:
            raise InvalidRequest("the proxy can't be taken: its key was not asked for here")
        try:
            await self._delegations.accept(known, proxy=proxy.pem, key=key, expires=expires)
        except LostRace as error:
            raise InvalidRequest(str(error)) from error
        log.info("credential delegated", dn=dn, expires=expires.isoformat())
        return expires

    async def drop(self, dn: str) -> bool:
        """Forget what the user has delegated; whether there was something. Conflict: in use."""
        dropped = await self._delegations.drop(delegation_id(dn))
        log.info("delegation withdrawn", dn=dn)
        return dropped

    async def credential(self, dn: str) -> HeldCredential:
        """What the user has delegated; NoCredential when there is nothing, or it has expired."""
        known = await self.held(dn)
        if known is None or not (known.proxy and known.proxy_key and known.expires):
            raise NoCredential(f"{dn} has no delegated credential (any more)")
        try:
            key = self._sealer.open(known.proxy_key, _context(dn))
        except SealBroken as error:
            log.error("a delegated credential can't be read", dn=dn, reason=str(error))
            raise NoCredential(f"the credential that {dn} delegated can't be read") from error
        return HeldCredential(certificate=known.proxy.encode(), key=key, expires=known.expires)

    async def transfer_identity(self, dn: str, allowed: CopyAs) -> TransferIdentity:
        """See `decide`."""
        known = await self.held(dn)
        if known is not None and _left(known) >= self._least_life:
            return TransferIdentity.USER
        if allowed is CopyAs.USER and known is None:
            raise Forbidden(f"your transfers are copied under your own identity: {HOW}")
        if allowed is CopyAs.USER:
            hours = self._least_life.total_seconds() / 3600
            raise Forbidden(f"your delegated credential has less than {hours:g} h left: {HOW}")
        return TransferIdentity.SERVICE

    async def warning(self, dn: str) -> str | None:
        """What the user should know of their credential's end, if that is near."""
        known = await self.held(dn)
        return self.about(known) if known else "no delegated credential (any more): delegate again"

    def about(self, known: Delegation) -> str | None:
        left = _left(known)
        if known.expires is None or (left >= self._warn_below and known.notified_at is None):
            return None
        return (
            f"the delegated credential expires at {known.expires:%Y-%m-%dT%H:%M:%SZ}: "
            "delegate again"
        )

    async def notify_expiring(self) -> int:
        """Notify users whose credential ends too soon, by an event for each job that needs it."""
        within = self._warn_below.total_seconds()
        expiring = await self._delegations.expiring(within, NOTIFIED_AT_ONCE)
        for one in expiring:
            jobs = await self._delegations.notify(one)
            if jobs:
                log.warning("a delegated credential expires", dn=one.dn, jobs=jobs)
        return len(expiring)

    async def wipe_expired(self, fence: Fence) -> int:
        """Remove the keys of what has expired."""
        return await self._delegations.wipe(fence, PATIENCE)

    def _fits(self, sealed: bytes, dn: str, proxy: delegated.DelegatedProxy) -> bool:
        try:
            return delegated.public_key(self._sealer.open(sealed, _context(dn))) == proxy.key
        except SealBroken as error:
            log.error("a delegated key can't be read", dn=dn, reason=str(error))
            return False


async def decide(
    delegation: CredentialDelegation | None, dn: str, allowed: CopyAs
) -> TransferIdentity:
    """Under whose identity a submission of this user's is copied, as the policy allows.

    Forbidden when it may only be the user's, and there is no credential for it.
    """
    if allowed is CopyAs.SERVICE:
        return TransferIdentity.SERVICE
    if delegation is not None:
        return await delegation.transfer_identity(dn, allowed)
    if allowed is CopyAs.USER:
        raise Forbidden(
            "your transfers would need your own identity, which can't be delegated here"
        )
    return TransferIdentity.SERVICE


def _context(dn: str) -> str:
    return f"delegation {delegation_id(dn)} {dn}"


def _left(known: Delegation) -> timedelta:
    return known.expires - datetime.now(UTC) if known.expires else timedelta(0)

"""FTS's endpoints, for each job under the identity that it is copied under."""

from __future__ import annotations

import asyncio

import structlog

from deliv.delivery.delegation import CredentialDelegation
from deliv.errors import NoCredential, Refused, Unavailable
from deliv.gateways.fts import Endpoint, Fts
from deliv.gateways.fts.users import UserEndpoints
from deliv.model.job import Job

log = structlog.get_logger()


def sid(job: Job) -> str:
    """Names a transfer of an attempt at FTS, which makes the transfer's id from it."""
    return f"{job.job_id}:{job.attempt}" + (f".{job.slice}" if job.slice else "")


class EndpointResolver:
    """Without `delegation` no user can delegate, and every job is the service's own."""

    def __init__(
        self, fts: Fts, users: UserEndpoints, delegation: CredentialDelegation | None
    ) -> None:
        self._fts = fts
        self._users = users
        self._delegation = delegation

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the configuration."""
        return tuple(endpoint.name for endpoint in self._fts.endpoints)

    async def takes_new(self, name: str) -> bool:
        """Whether a job that no FTS has would go to this one now."""
        try:
            return (await self._fts.choose()).name == name
        except Unavailable:
            return False

    async def of(self, job: Job) -> Endpoint:
        """The endpoint that has the job. Unavailable: it left the configuration. NoCredential."""
        return await self.acting(job, job.fts_endpoint or "")

    async def acting(self, job: Job, name: str) -> Endpoint:
        """An endpoint as the job needs it. Unavailable, NoCredential."""
        return await self.acting_as(job.copying_user, name)

    async def acting_as(self, dn: str | None, name: str) -> Endpoint:
        """An endpoint under a user's identity, or deliv's own. Unavailable, NoCredential."""
        return self._fts.endpoint(name) if dn is None else await self.as_user(dn, name)

    async def as_user(self, dn: str, name: str) -> Endpoint:
        self._fts.endpoint(name)
        if self._delegation is None:
            raise NoCredential("no credentials are delegated to this deliv")
        try:
            credential = await self._delegation.credential(dn)
        except NoCredential:
            self._users.forget(name, dn)
            raise
        return self._users.get(name, dn, credential)

    async def undelegate(self, dn: str) -> tuple[bool, list[str]]:
        """Forget a user's credential, here and at every FTS that it may have been lent to.

        Whether there was one, and for each FTS that could not be asked the reason: deliv keeps no
        credential that it was asked to forget, so it does not ask later. Conflict: in use.
        """
        if self._delegation is None:
            return False, []
        reasons: list[str | None] = []
        lent: list[Endpoint] = []
        try:
            lent += [await self.as_user(dn, endpoint.name) for endpoint in self._fts.endpoints]
        except NoCredential as error:
            reasons.append(str(error))
        dropped = await self._delegation.drop(dn)
        reasons += await asyncio.gather(*(self._undelegate(dn, endpoint) for endpoint in lent))
        return dropped, [reason for reason in reasons if dropped and reason]

    async def _undelegate(self, dn: str, endpoint: Endpoint) -> str | None:
        try:
            await endpoint.undelegate()
        except (Unavailable, Refused) as error:
            log.warning("FTS keeps a delegation", endpoint=endpoint.name, dn=dn, reason=str(error))
            return str(error)
        finally:
            self._users.forget(endpoint.name, dn)
        return None

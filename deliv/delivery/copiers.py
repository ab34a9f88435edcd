"""FTS's endpoints, for each job under the identity that it is copied under."""

from __future__ import annotations

from deliv.delivery.delegating import Delegating
from deliv.errors import NoCredential
from deliv.fts import Endpoint, Fts
from deliv.fts.users import UserEndpoints
from deliv.model import CopiedAs, Job


class Copiers:
    """Without `delegating` nobody delegates, and every job is the service's own."""

    def __init__(self, fts: Fts, users: UserEndpoints, delegating: Delegating | None) -> None:
        self._fts = fts
        self._users = users
        self._delegating = delegating

    async def of(self, job: Job) -> Endpoint:
        """The endpoint that has the job. Unavailable: it left the configuration. NoCredential."""
        return await self.acting(job, job.fts_endpoint or "")

    async def acting(self, job: Job, name: str) -> Endpoint:
        """An endpoint as the job needs it. Unavailable, NoCredential."""
        if job.copied_as is CopiedAs.USER:
            return await self.as_user(job.submitter, name)
        return self._fts.endpoint(name)

    async def as_user(self, dn: str, name: str) -> Endpoint:
        self._fts.endpoint(name)
        if self._delegating is None:
            raise NoCredential("no credentials are delegated to this deliv")
        try:
            credential = await self._delegating.credential(dn)
        except NoCredential:
            self._users.forget(name, dn)
            raise
        return self._users.get(name, dn, credential)

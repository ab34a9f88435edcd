"""Repair what can be mended safely, as `deliv check --repair` does."""

from __future__ import annotations

from typing import Any

from deliv.commands.check.findings import Finding, Mend
from deliv.delivery.endpoints import EndpointResolver
from deliv.errors import LostRace, NoCredential, Refused, Unavailable
from deliv.gateways.fts import Endpoint, Fts
from deliv.gateways.stager import Stager
from deliv.store import Store

# What a job's row gets, if the job is as it was found.
CHANGES: dict[Mend, dict[str, Any]] = {
    Mend.DUE: {"delay": 0},
    Mend.DESTINATION: {"destination_key": None},
    Mend.CODE: {"stager_callback": None},
    Mend.ASK: {"delay": 0, "stager_accepted": None},
}


class Repair:
    def __init__(self, store: Store, stager: Stager, fts: Fts, copiers: EndpointResolver) -> None:
        self._store = store
        self._stager = stager
        self._fts = fts
        self._copiers = copiers

    async def mend(self, finding: Finding) -> tuple[bool, str]:
        """Whether it was done, and what there is to say."""
        if finding.mend is None:
            return False, "not mended: that needs somebody who knows why"
        try:
            await self._do(finding, finding.mend)
        except LostRace:
            return False, "not mended: it has changed meanwhile, look again"
        except (Unavailable, Refused, NoCredential) as error:
            return False, f"not mended: {error}"
        return True, f"mended: {finding.mend}"

    async def _do(self, finding: Finding, mend: Mend) -> None:
        job_id, subject = finding.job_id or "", finding.subject or ""
        if mend in CHANGES:
            await self._change(finding, mend)
        elif mend is Mend.RELEASE:
            await self._stager.release(job_id)
        elif mend is Mend.WITHDRAW:
            await (await self._endpoint(finding)).cancel(subject)
        elif mend is Mend.ADMISSION:
            await self._store.create_lease(subject)
        elif mend is Mend.COUNTS:
            await self._store.recount(subject)
        else:
            await self._store.remove_lease(subject)

    async def _endpoint(self, finding: Finding) -> Endpoint:
        name = finding.endpoint or ""
        if finding.user is None:
            return self._fts.endpoint(name)
        return await self._copiers.as_user(finding.user, name)

    async def _change(self, finding: Finding, mend: Mend) -> None:
        job = await self._store.job(finding.job_id or "")
        if job is None or job.version != finding.version:
            raise LostRace(f"the job {finding.job_id} has changed")
        await self._store.update(job, **CHANGES[mend])

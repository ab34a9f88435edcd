"""Repair what can be repaired safely, as `deliv check --repair` does."""

from __future__ import annotations

from typing import Any

from deliv.commands.check.findings import Finding, Fix
from deliv.delivery.endpoints import EndpointResolver
from deliv.delivery.manifest import BATCH
from deliv.delivery.transfer import FtsTransfers
from deliv.errors import LostRace, NoCredential, Refused, Unavailable
from deliv.gateways.fts import Endpoint, Fts
from deliv.gateways.stager import Stager
from deliv.model.job import Job
from deliv.model.staging import SharedStaging, StagingState
from deliv.model.states import Event
from deliv.store import Store

# What a job's row gets, if the job is as it was found.
CHANGES: dict[Fix, dict[str, Any]] = {
    Fix.DUE: {"delay": 0},
    Fix.DESTINATION: {"destination_key": None},
    Fix.CODE: {"stager_callback": None},
    Fix.ASK: {"delay": 0, "stager_accepted": None},
    Fix.REST: {
        "delay": 0,
        "rest": None,
        "let_go": None,
        "waiting_for": None,
        "waiting_since": None,
        "detailed_status": None,
    },
}


class Repair:
    def __init__(
        self,
        store: Store,
        stager: Stager,
        fts: Fts,
        endpoints: EndpointResolver,
        transfers: FtsTransfers,
    ) -> None:
        self._transfers = transfers
        self._store = store
        self._stager = stager
        self._fts = fts
        self._endpoints = endpoints

    async def repair(self, finding: Finding) -> tuple[bool, str]:
        """Whether it was done, and what there is to say."""
        job_id, subject = finding.job_id or "", finding.subject or ""
        try:
            match finding.fix:
                case None:
                    return False, "not repaired: that needs somebody who knows the reason"
                case Fix.RELEASE:
                    await self._stager.release(job_id)
                case Fix.ASK_STAGING:
                    await self._store.update_staging(
                        await self._staging_as_found(finding),
                        delay=0,
                        tell={"stager_accepted": None},
                        state=StagingState.ASKING,
                    )
                case Fix.STAGING_DUE:
                    await self._store.update_staging(await self._staging_as_found(finding), delay=0)
                case Fix.STAGING_FILES:
                    while await self._store.discard_staging_files(job_id, None, BATCH):
                        pass
                case Fix.WITHDRAW:
                    await (await self._endpoint(finding)).cancel(subject)
                case Fix.ADMISSION:
                    await self._store.create_lease(subject)
                case Fix.LEASE:
                    await self._store.remove_lease(subject)
                case Fix.COUNTS:
                    await self._store.recount(subject)
                case Fix.SPACE:
                    await self._store.recount_space()
                case Fix.FILES:
                    await self._count_files(await self._as_found(finding))
                case Fix.STRAY_FILES:
                    while await self._store.discard_files(job_id, bytes.fromhex(subject), BATCH):
                        pass
                case Fix.WRITER:
                    await self._store.free_destinations(job_id)
                case Fix.ADMIT:
                    await self._store.apply(await self._as_found(finding), Event.ADMIT)
                case Fix.TAKE_OVER:
                    job = await self._as_found(finding)
                    await self._transfers.take_over(job, finding.endpoint or "", finding.attempt)
                case fix:
                    await self._store.update(await self._as_found(finding), **CHANGES[fix])
        except LostRace:
            return False, "not repaired: it has changed meanwhile, look again"
        except (Unavailable, Refused, NoCredential) as error:
            return False, f"not repaired: {error}"
        return True, f"repaired: {finding.fix}"

    async def _count_files(self, job: Job) -> None:
        totals = await self._store.file_totals(job, job.report or b"")
        done = {name: totals[name] for name in ("files_done", "bytes_done")}
        await self._store.update(job, **done)

    async def _as_found(self, finding: Finding) -> Job:
        """The finding's job. LostRace unless it is as it was found."""
        job = await self._store.job(finding.job_id or "")
        if job is None or job.version != finding.version:
            raise LostRace(f"the job {finding.job_id} has changed")
        return job

    async def _staging_as_found(self, finding: Finding) -> SharedStaging:
        staging = await self._store.staging(finding.job_id or "")
        if staging is None or staging.version != finding.version:
            raise LostRace(f"the staging {finding.job_id} has changed")
        return staging

    async def _endpoint(self, finding: Finding) -> Endpoint:
        name = finding.endpoint or ""
        if finding.user is None:
            return self._fts.endpoint(name)
        return await self._endpoints.as_user(finding.user, name)

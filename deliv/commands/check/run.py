"""One run through everything there is to check."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from deliv.assembly import lease_ttls
from deliv.commands.check.findings import Finding, Unchecked
from deliv.commands.check.fts import FtsCheck
from deliv.commands.check.pages import PAGE
from deliv.commands.check.rules import Moment, examine
from deliv.commands.check.stager import StagerCheck
from deliv.commands.check.tables import tables
from deliv.config import Config
from deliv.delivery.endpoints import EndpointResolver
from deliv.errors import DatabaseUnavailable, NoCredential, Refused, Unavailable
from deliv.gateways.fts import Fts
from deliv.gateways.stager import Stager
from deliv.store import Store
from deliv.store.inspection import Inspection

STEPS_BACK = 100  # of the database's clock, at most, that explain the order of times
CLAIMS = 10  # time-outs of a claim without progress, after which an operator should know


@dataclass
class Counts:
    jobs: int = 0
    archived: int = 0
    events: int = 0


class Run:
    """`findings` is the run; `counts` and `unchecked` are complete at its end."""

    def __init__(
        self,
        settings: Config,
        inspection: Inspection,
        store: Store,
        stager: Stager,
        fts: Fts,
        endpoints: EndpointResolver,
    ) -> None:
        self.counts = Counts()
        self.unchecked: list[str] = []
        self._settings = settings
        self._inspection = inspection
        self._store = store
        self._stager = stager
        self._fts = fts
        self._endpoints = endpoints
        self._patience = CLAIMS * float(settings.sweeps.hold)

    async def findings(self) -> AsyncIterator[Finding]:
        """DatabaseUnavailable ends it; what else does not answer is noted in `unchecked`."""
        async for finding in tables(self._inspection, lease_ttls(self._settings), self._patience):
            yield finding
        for archived in (False, True):
            async for finding in self._jobs(archived=archived):
                yield finding
        stager = StagerCheck(self._inspection, self._stager).findings()
        async for finding in self._outside("the stager", stager):
            yield finding
        for endpoint in self._fts.endpoints:
            transfers = FtsCheck(self._inspection, self._store, endpoint).findings()
            async for finding in self._outside(f"FTS {endpoint.name}", transfers):
                yield finding
            for dn in await self._inspection.users():
                whom = f"FTS {endpoint.name} for {dn}"
                async for finding in self._outside(whom, self._of_user(dn, endpoint.name)):
                    yield finding

    async def _of_user(self, dn: str, name: str) -> AsyncIterator[Finding]:
        """What is copied under the identity of a user who has delegated."""
        endpoint = await self._endpoints.as_user(dn, name)
        async for finding in FtsCheck(self._inspection, self._store, endpoint, dn).findings():
            yield finding

    async def _jobs(self, *, archived: bool) -> AsyncIterator[Finding]:
        steps_back = await self._inspection.steps_back(STEPS_BACK)
        after, full = "", True
        while full:
            page = await self._inspection.page(after, PAGE, archived=archived)
            moment = Moment(
                now=page.now,
                patience=timedelta(seconds=self._patience),
                endpoints=frozenset(self._settings.fts.endpoints),
                steps_back=steps_back,
            )
            for record in page.records:
                self.counts.jobs += not archived
                self.counts.archived += archived
                self.counts.events += len(record.steps)
                for finding in examine(record, moment, archived=archived):
                    yield finding
            for job_id in page.strays:
                yield Finding(rule="history", text="has events, but is no job", job_id=job_id)
            after, full = page.last, page.full

    async def _outside(self, whom: str, findings: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
        try:
            async for finding in findings:
                yield finding
        except DatabaseUnavailable:
            raise
        except Unchecked as error:
            self.unchecked.append(str(error))
        except (Unavailable, Refused, NoCredential) as error:
            self.unchecked.append(f"{whom}: {error}")

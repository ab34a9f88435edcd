"""The facade's part about stagings: deliv/store/stagings.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from deliv.db.database import Connection, Duplicate
from deliv.model.file import ReportedFile
from deliv.model.job import Job
from deliv.model.staging import SharedStaging
from deliv.store import staging_area, stagings
from deliv.store.columns import KEEP, Sentinel
from deliv.store.leases import Fence
from deliv.store.outbox import Routing
from deliv.store.transactions import REPEATS, Transactions


class StagingStore(Transactions):
    async def enter_staging(self, job: Job, wait: float) -> tuple[Job, SharedStaging]:
        """The job and its staging: the one that it has, the open one of its product, or a new one.

        A job that waits for it rests for `wait` seconds: it is due when there is news. LostRace.
        """

        def run(tx: Connection) -> tuple[Job, SharedStaging]:
            return stagings.enter(tx, job, wait)

        for attempt in range(REPEATS, 0, -1):
            try:
                return await self._retry_unknown_commit(run, run)
            except Duplicate:  # another job has opened one just now
                if attempt == 1:
                    raise
        raise AssertionError("unreachable")

    async def staging(self, staging_id: str) -> SharedStaging | None:
        if not staging_id.isascii():  # MariaDB would not compare it
            return None
        return await self._run(lambda tx: stagings.find(tx, staging_id))

    async def due_stagings(self, limit: int) -> list[str]:
        """Ids of stagings that need attention, the longest overdue first."""
        return await self._run(lambda tx: stagings.due(tx, limit))

    async def claim_staging(self, staging_id: str, timeout: float) -> SharedStaging | None:
        """The staging, kept from other workers for `timeout` seconds; None when it is not due.

        It is RELEASING when no job needs it any more.
        """
        return await self._run(lambda tx: stagings.claim(tx, staging_id, timeout))

    async def update_staging(
        self,
        staging: SharedStaging,
        *,
        delay: float | Sentinel | None = KEEP,
        tell: Mapping[str, object] = MappingProxyType({}),
        wake: bool = False,
        **columns: Any,
    ) -> SharedStaging:
        """Set columns; due_at stays unless `delay` is given (None: at rest). LostRace.

        `tell` are columns of the jobs that wait for it; with `wake` these are due.
        """

        def run(tx: Connection) -> SharedStaging:
            changed = stagings.change(tx, staging, columns, delay)
            if tell:
                stagings.tell(tx, changed, tell)
            if "code" in columns:
                stagings.tell_code(tx, changed)
            if wake:
                stagings.wake(tx, changed)
            return changed

        def again(tx: Connection) -> SharedStaging:
            return stagings.applied(tx, staging, columns) or run(tx)

        changed = await self._retry_unknown_commit(run, again)
        if wake:
            self.on_outbox()
        return changed

    async def waiting_for(self, staging: SharedStaging) -> list[Job]:
        """The jobs that wait for it; those in flight are bounded."""
        return await self._run(lambda tx: stagings.waiting(tx, staging))

    async def leave_staging(
        self, job: Job, *, wake: tuple[Routing, ...] = ()
    ) -> tuple[Job, SharedStaging | None]:
        """The job, which has ended and needs its staging no more, and what it has to give back.

        Where others need it, or nothing is left, the job is closed. Else it has no `time_released`
        yet: its staging is RELEASING, or None when the release before staged for it alone.
        `wake` are the outbox routings to add when it is closed. LostRace.
        """

        def run(tx: Connection) -> tuple[Job, SharedStaging | None]:
            return stagings.leave(tx, job, wake)

        left = await self._retry_unknown_commit(run, run)
        if wake:
            self.on_outbox()
        return left

    async def staging_given_back(
        self,
        staging: SharedStaging | None,
        job: Job | None = None,
        *,
        wake: tuple[Routing, ...] = (),
    ) -> None:
        """The stager has confirmed it, to this job's worker if there is one. LostRace."""

        def run(tx: Connection) -> None:
            stagings.given_back(tx, staging, job, wake)

        await self._retry_unknown_commit(run, run)
        if wake:
            self.on_outbox()

    async def recount_space(self) -> None:
        """Set the counts of the space that stagings take to what the stagings say."""
        await self._run(staging_area.recount)

    async def add_staging_files(
        self, staging: SharedStaging, report: bytes, first: int, files: Sequence[ReportedFile]
    ) -> None:
        """Some files of a report that does not count yet, numbered from `first`."""

        def run(tx: Connection) -> None:
            stagings.add_files(tx, staging.staging_id, report, first, files)

        await self._retry_unknown_commit(run, run)

    async def staging_files(
        self, staging: SharedStaging, first: int, limit: int
    ) -> list[ReportedFile]:
        """Files of the report that counts, from number `first` on."""
        return await self._run(lambda tx: stagings.files(tx, staging, first, limit))

    async def discard_staging_files(self, staging_id: str, report: bytes | None, limit: int) -> int:
        """Remove files, of one report or of all; how many."""
        return await self._run(lambda tx: stagings.discard(tx, staging_id, report, limit))

    async def forget_stagings(self, fence: Fence, age: float, limit: int) -> int:
        """Remove stagings that were given back `age` seconds ago; how many. LostRace."""
        return await self._run(lambda tx: stagings.forget(tx, fence, age, limit))

"""The facade's part about places that rest: deliv/store/rests.py, rest_looks.py."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any

from deliv.config import StagingLimits
from deliv.db.database import Connection
from deliv.model.job import Job
from deliv.model.rest import Cause, Place, Rest, RestRules
from deliv.model.states import Event, after
from deliv.store import admission, jobs, rest_looks, rests
from deliv.store.columns import Change
from deliv.store.transactions import Transactions


class RestStore(Transactions):
    async def credential_lasts(self, dn: str, rules: RestRules) -> bool:
        """Whether the user has a delegated credential that a copy may begin with."""
        return await self._run(lambda tx: rests.credential_lasts(tx, dn, rules.least_life or 0))

    async def rest_of(self, job: Job) -> Rest | None:
        """Where the job has to rest now, if anywhere."""
        return await self._run(lambda tx: rests.of(tx, job))

    async def rests_of(self, some: Collection[Job]) -> dict[str, Rest]:
        """As `rest_of`, by job id, of those of these jobs that have to rest."""
        return await self._run(lambda tx: rests.of_several(tx, some))

    async def fail_at(
        self,
        job: Job,
        event: Event,
        place: Place,
        reason: str,
        why: str,
        rules: RestRules,
        **columns: Any,
    ) -> Job | None:
        """Take the job through `event` after a failure that the place is to blame for.

        Where the place rests by now the job does too. None when it has waited there for as long as
        it may. `reason` is for all who wait there, `why` has what is the job's own. LostRace.
        """
        what = Change(status=after(job.status, event), columns={"attempt": columns["attempt"]})

        def run(tx: Connection) -> Job | None:
            return rests.fail(tx, job, event, place, reason, why, rules, columns)

        changed = await self._retry_unknown_commit(
            run, lambda tx: jobs.applied(tx, job, what) or run(tx)
        )
        self.on_outbox()
        return changed

    async def rest(self, job: Job, rest: Rest, delay: float) -> Job:
        """The job, which rests where others do, and is looked at again after `delay`. LostRace.

        It is due now where the place does not rest any more.
        """
        return await self._run(lambda tx: rests.join(tx, job, rest, delay))

    async def wait_at(self, place: Place, reason: str) -> Rest:
        """The place, which rests from now on until what it waits for is there."""
        return await self._run(lambda tx: rests.wait(tx, place, reason))

    async def begin_rest(self, place: Place, reason: str, until: datetime | None, who: str) -> None:
        """Have a host rest, for an operator: until then, or until `end_rest`."""
        await self._run(lambda tx: rests.begin(tx, place, reason, until, who))

    async def end_rest(self, key: bytes) -> bool:
        """The place rests no more; whether it did. Its jobs go on with the next look."""
        return await self._run(lambda tx: rests.end(tx, key))

    async def resting(self) -> dict[Cause, int]:
        """How many places rest, by their cause."""
        return await self._run(rest_looks.count)

    async def rests(self, limit: int) -> list[Rest]:
        """What rests, the longest first."""
        return await self._run(lambda tx: rest_looks.resting(tx, limit))

    async def try_rests(self, rules: RestRules, limit: int) -> int:
        """Where the next try has come let one job go; of how many places."""
        due = await self._run(lambda tx: rest_looks.due(tx, limit))
        for rest in due:
            await self._run(partial(rests.try_again, key=rest.place_key, rules=rules))
        self.on_outbox()
        return len(due)

    async def free_rested(self, rules: RestRules, limit: int) -> int:
        """Let some of the jobs go whose place does not rest any more; how many."""
        ended = await self._run(lambda tx: rest_looks.ended(tx, rules, limit))
        freed = 0
        for key in ended:
            freed += await self._run(partial(rests.free, key=key, limit=limit))
        return freed

    async def in_the_way(self, limits: StagingLimits, limit: int) -> list[Job]:
        """Some staged jobs that rest, where others wait for what their copies take."""

        def run(tx: Connection) -> list[Job]:
            statuses = admission.in_the_way(tx, limits)
            return rest_looks.staged(tx, statuses, limit) if statuses else []

        return await self._run(run)

    async def tired(self, rules: RestRules, limit: int) -> dict[str, Rest]:
        """Jobs that have waited for a place for as long as they may, and where, by their ids."""
        return await self._run(lambda tx: rest_looks.tired(tx, rules, limit))

"""POST /cancelTransfer: one job, several, or those of a label."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, UnsetType

from deliv.errors import Conflict, Forbidden, NotFound, Unavailable
from deliv.http import types
from deliv.http.call.answers import Answer, DoneAnswer
from deliv.http.call.base import Call
from deliv.http.call.parameters import MAX_ITEMS, Parameters
from deliv.model.states import Status

TOGETHER = 8  # of one call; as many wait for FTS at once
LONGEST = 20.0  # seconds after which a call begins with no other job


class CancelParameters(Parameters, frozen=True, kw_only=True):
    """One job, several, or those of a label that have not ended."""

    alternatives: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {"job_id": (), "job_ids": (), "label": ("submitter",)}
    )
    job_id: types.AnyJobId | None = None
    job_ids: Annotated[list[types.AnyJobId], Meta(min_length=1, max_length=MAX_ITEMS)] | None = None
    label: types.Label | None = None
    submitter: types.Dn | None = None


class CancelAnswer(DoneAnswer, frozen=True, kw_only=True):
    job_id: types.JobId
    status: Status


class CancelOutcome(Answer, frozen=True, kw_only=True):
    """Of one job: the status code of a call for it alone, and its `status` after 200 and 202."""

    code: int
    job_id: types.AnyJobId
    status: Status | UnsetType = UNSET
    msg: types.Text


class CancelManyAnswer(DoneAnswer, frozen=True, kw_only=True):
    outcomes: Annotated[
        list[CancelOutcome],
        Meta(description="One for each job that was begun with.", max_length=MAX_ITEMS),
    ]
    left: Annotated[
        bool, Meta(description="There are more: repeat the call, without what has an outcome.")
    ]


class CancelTransfer(Call[CancelParameters]):
    """200 when the job is cancelled, 202 while FTS has yet to confirm; 200 for several."""

    path = "/cancelTransfer"
    accepts = CancelParameters

    async def post(self) -> None:
        wanted = self.body_parameters()
        if wanted.job_id is not None:
            answer = await self._cancel(wanted.job_id)
            self.answer(answer, _code(answer))
        elif wanted.label is not None:
            owner = wanted.submitter or self.identity.dn
            self.authorise("cancel", owner=owner)
            found = await self.services.submissions.stoppable(owner, wanted.label, MAX_ITEMS + 1)
            await self._cancel_many(found[:MAX_ITEMS], more=len(found) > MAX_ITEMS)
        else:
            await self._cancel_many(wanted.job_ids or [], more=False)

    async def _cancel_many(self, job_ids: list[str], *, more: bool) -> None:
        outcomes: dict[int, CancelOutcome] = {}
        waiting, until = iter(enumerate(job_ids)), time.monotonic() + LONGEST

        async def work() -> None:
            for place, job_id in waiting:
                outcomes[place] = await self._outcome(job_id)
                if time.monotonic() >= until:
                    break

        await asyncio.gather(*(work() for _ in range(TOGETHER)))
        stopped = sum(outcome.code in {200, 202} for outcome in outcomes.values())
        self.audit_line.note(accepted=stopped, refused=len(outcomes) - stopped)
        self.answer(
            CancelManyAnswer(
                msg=f"{stopped} of {len(outcomes)} are cancelled, or FTS is asked to stop them",
                outcomes=[outcomes[place] for place in sorted(outcomes)],
                left=more or len(outcomes) < len(job_ids),
            )
        )

    async def _outcome(self, job_id: str) -> CancelOutcome:
        try:
            done = await self._cancel(job_id)
        except (Conflict, Forbidden, NotFound, Unavailable) as error:
            msg = error.public or str(error)
            return CancelOutcome(code=error.status, job_id=job_id, msg=msg)
        return CancelOutcome(code=_code(done), job_id=done.job_id, status=done.status, msg=done.msg)

    async def _cancel(self, job_id: str) -> CancelAnswer:
        job = await self.services.submissions.job(job_id)
        self.authorise("cancel", owner=job.submitter)
        job = await self.services.cancellation.cancel(job.job_id)
        pending = job.status is Status.TRANSFERRING
        msg = "FTS is being asked to stop the copy" if pending else "cancelled"
        return CancelAnswer(job_id=job.job_id, status=job.status, msg=msg)


def _code(answer: CancelAnswer) -> int:
    """Whether FTS has yet to confirm that it has stopped the copy."""
    return 202 if answer.status is Status.TRANSFERRING else 200

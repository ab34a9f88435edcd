"""POST /retryTransfer: what ended in ERROR is submitted once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from deliv.delivery.destination import parse_directory
from deliv.delivery.retry import why_not
from deliv.delivery.submit import new_ids
from deliv.errors import DelivError, Forbidden, InvalidRequest
from deliv.http import types
from deliv.http.call.answers import Answer, DoneAnswer
from deliv.http.call.parameters import MAX_ITEMS, Parameters
from deliv.http.handlers.submission import SubmitCall, SubmitParameters, in_batches
from deliv.model.job import Job, Submission
from deliv.model.states import Status

# The job itself or the last one that repeats it, or why there is none; by the id that was given.
Named: TypeAlias = tuple[str, Job | DelivError]
# The job, and whether this call has made it; or why there is none.
Outcome: TypeAlias = tuple[Job, bool] | DelivError


class RetryParameters(Parameters, frozen=True, kw_only=True):
    """One job, several, or those of a label that ended in ERROR."""

    alternatives: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {"job_id": ("deadline",), "job_ids": ("deadline",), "label": ("deadline", "cursor")}
    )
    job_id: types.AnyJobId | None = None
    job_ids: Annotated[list[types.AnyJobId], Meta(min_length=1, max_length=MAX_ITEMS)] | None = None
    label: types.Label | None = None
    deadline: types.Deadline | None = None
    cursor: types.Cursor | None = None


Skipped = Annotated[
    str,
    Meta(description="Why nothing was submitted: it is under way, or has not failed in the end."),
]


class RetryAnswer(DoneAnswer, frozen=True, kw_only=True):
    """`job_id` is the new job, or the one for which this one was skipped."""

    job_id: types.JobId
    status: Status
    retry_of: types.JobId | UnsetType = UNSET
    skipped: Skipped | UnsetType = UNSET


class RetryOutcome(Answer, frozen=True, kw_only=True):
    """Of one job: the status code of a call for it alone. What is refused has its own `job_id`."""

    code: int
    job_id: types.Text
    status: Status | UnsetType = UNSET
    retry_of: types.JobId | UnsetType = UNSET
    skipped: Skipped | UnsetType = UNSET
    msg: types.Text | UnsetType = UNSET


class RetryManyAnswer(DoneAnswer, frozen=True, kw_only=True):
    accepted: Annotated[int, Meta(ge=0)]
    skipped: Annotated[int, Meta(ge=0)]
    refused: Annotated[int, Meta(ge=0)]
    outcomes: Annotated[
        list[RetryOutcome],
        Meta(description="Of several jobs one for each, in their order.", max_length=MAX_ITEMS),
    ]
    next: Annotated[
        types.JobId | None,
        Meta(description="The `cursor` for more of the label's jobs; null when these are all."),
    ]


class RetryTransfer(SubmitCall[RetryParameters]):
    """202 with the new job, 200 where there is none to be made; 200 for several."""

    path = "/retryTransfer"
    accepts = RetryParameters

    async def post(self) -> None:
        wanted = self.body_parameters()
        retries = self.services.retries
        following = None
        named: Sequence[Named]
        if wanted.label is not None:
            own = self.identity.dn
            self.authorise("list", owner=own)
            named, following = await retries.of_label(own, wanted.label, wanted.cursor, MAX_ITEMS)
        else:
            job_ids = wanted.job_ids or [wanted.job_id or ""]
            named = list(zip(job_ids, await retries.latest(job_ids), strict=True))
        found = await in_batches(
            named,
            lambda some: self._decide(some, wanted.deadline),
            lambda batch: self._submit(*batch),
            lambda error: error,
        )
        if wanted.job_id is not None:
            self._answer_one(wanted.job_id, found[0])
        else:
            outcomes = [_outcome(name, one) for (name, _), one in zip(named, found, strict=True)]
            self._answer_many(outcomes, following)

    async def _decide(
        self, named: Sequence[Named], deadline: datetime | None
    ) -> tuple[Sequence[Named], dict[str, Submission], dict[str, Outcome]]:
        """What is to be submitted and the other outcomes, each by the id of the latest job.

        A job that is named twice, or together with what it repeats, is repeated once.
        """
        latest = {job.job_id: job for _, job in named if isinstance(job, Job)}
        outcomes: dict[str, Outcome] = {}
        wanted: dict[str, Submission] = {}
        for job, new_id in zip(latest.values(), new_ids(len(latest)), strict=True):
            try:
                self._check_owner(job)
                if job.status is Status.ERROR:
                    wanted[job.job_id] = await self._submission(new_id, job, deadline)
                else:
                    outcomes[job.job_id] = job, False
            except (InvalidRequest, Forbidden) as error:
                outcomes[job.job_id] = error
        return named, wanted, outcomes

    async def _submit(
        self,
        named: Sequence[Named],
        wanted: dict[str, Submission],
        decided: dict[str, Outcome],
    ) -> list[Outcome]:
        outcomes = dict(decided)
        submit_many = self.services.submissions.submit_many
        taken = await submit_many(list(wanted.values())) if wanted else []
        for (job_id, one), found in zip(wanted.items(), taken, strict=True):
            new = isinstance(found, Job) and found.job_id == one.job_id
            outcomes[job_id] = (found, new) if isinstance(found, Job) else found
        return [outcomes[job.job_id] if isinstance(job, Job) else job for _, job in named]

    def _check_owner(self, job: Job) -> None:
        self.authorise("status", owner=job.submitter)
        if job.submitter != self.identity.dn:
            raise Forbidden("a job is submitted once more by its submitter alone")

    async def _submission(self, job_id: str, job: Job, deadline: datetime | None) -> Submission:
        wanted = SubmitParameters(
            product_id=job.product_id,
            destination_path=parse_directory(job.destination_path),
            deadline=deadline or job.deadline,
            label=job.label,
        )
        submission = await self.submission(job_id, wanted, None)
        return replace(submission, retry_of=job.job_id, deadline_lapses=deadline is None)

    def _answer_one(self, named: str, outcome: Outcome) -> None:
        if isinstance(outcome, DelivError):
            raise outcome
        job, new = outcome
        self.audit_line.note(job_id=job.job_id)
        facts = _facts(named, job, new=new)
        msg = facts.get("skipped", "accepted for delivery")
        self.answer(RetryAnswer(**facts, msg=msg), 202 if new else 200)

    def _answer_many(self, outcomes: list[RetryOutcome], following: str | None) -> None:
        accepted = sum(outcome.code == 202 for outcome in outcomes)
        skipped = sum(outcome.code == 200 for outcome in outcomes)
        refused = len(outcomes) - accepted - skipped
        self.record(accepted, refused)
        self.answer(
            RetryManyAnswer(
                accepted=accepted,
                skipped=skipped,
                refused=refused,
                outcomes=outcomes,
                next=following,
                msg=f"{accepted} of {len(outcomes)} accepted for delivery, {skipped} skipped",
            )
        )


def _outcome(named: str, outcome: Outcome) -> RetryOutcome:
    if isinstance(outcome, DelivError):
        msg = outcome.public or str(outcome)
        return RetryOutcome(code=outcome.status, job_id=named, msg=msg)
    job, new = outcome
    return RetryOutcome(code=202 if new else 200, **_facts(named, job, new=new))


def _facts(named: str, job: Job, *, new: bool) -> dict[str, Any]:
    """Of the job that repeats the one which was named, or for which that one is skipped."""
    facts = {"job_id": job.job_id, "status": job.status}
    facts |= {"retry_of": job.retry_of} if job.retry_of is not None else {}
    return facts | ({} if new else {"skipped": why_not(named, job)})

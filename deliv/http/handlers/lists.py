"""The lists of jobs, and the history of one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from deliv.http import types
from deliv.http.call.answers import Answer, shown
from deliv.http.call.base import Call
from deliv.http.call.parameters import Parameters
from deliv.http.handlers.job_view import own, retry, summary
from deliv.http.handlers.jobs import JobParameters
from deliv.http.handlers.waits import as_of_now
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Listing
from deliv.model.states import Status


class ListParameters(Parameters, frozen=True, kw_only=True):
    status: Status | None = None
    submitter: types.Dn | None = None
    label: types.Label | None = None
    product_id: types.ProductId | None = None
    since: types.Moment | None = None
    until: types.Moment | None = None
    cursor: types.Cursor | None = None
    limit: types.PageSize = types.USUAL

    def listing(self) -> Listing:
        return Listing(
            submitter=self.submitter,
            label=self.label,
            status=self.status,
            product_id=self.product_id,
            since=self.since,
            until=self.until,
            before=self.cursor,
            limit=self.limit,
        )


class Transfers(Call[ListParameters]):
    """GET /transfers: the caller's jobs; for an operator everybody's."""

    path = "/transfers"
    accepts = ListParameters

    async def get(self) -> None:
        listing = self.query_parameters().listing()
        owner, label = listing.submitter, listing.label
        sees_all = self.services.policy.decide(self.identity, "list").allowed
        if owner is None and (label is not None or not sees_all):
            owner = self.identity.dn
        self.authorise("list", **({"owner": owner} if owner else {}))
        # One more than are shown, to know whether there is another page.
        more = replace(listing, submitter=owner, limit=listing.limit + 1)
        found = await self.services.submissions.page(more)
        page = found[: listing.limit]
        cursor = page[-1].job_id if len(found) > len(page) else None
        retries = await self.services.retries.repeating(page)
        now = await as_of_now(self.services, page)
        listed = [summary(job) | retry(job, retries) for job in now]
        answer: dict[str, Any] = {"transfers": listed, "next": cursor}
        if owner is not None and label is not None:
            answer["totals"] = await self.services.submissions.totals(owner, label)
        self.write(answer)


class JobEventAnswer(Answer, frozen=True, kw_only=True):
    event_id: Annotated[int, Meta(ge=1, description="Grows with every event of any job.")]
    time: types.Time
    status: Status
    attempt: types.Positive
    staged: Annotated[bool, Meta(description="There was a staged copy.")]
    detailed_status: str | UnsetType = UNSET
    error_class: ErrorClass | UnsetType = UNSET


class TransferEvents(Call[JobParameters]):
    """GET /transferEvents: every step of one job."""

    path = "/transferEvents"
    accepts = JobParameters

    async def get(self) -> None:
        job = await self.services.submissions.job(self.query_parameters().job_id)
        self.authorise("events", owner=job.submitter)
        events = await self.services.submissions.events(job)
        events = [replace(one, detailed_status=own(job, one.detailed_status)) for one in events]
        shown_events = [shown(one, JobEventAnswer.__struct_fields__) for one in events]
        self.write({"job_id": job.job_id, "events": shown_events})

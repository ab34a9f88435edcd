"""What there is to look through: the lists of jobs, and the history of each."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from deliv.delivery.deadline import parse_moment
from deliv.delivery.destination import check_product_id
from deliv.errors import InvalidRequest
from deliv.http.call.base import Call
from deliv.http.call.parameters import Accepts
from deliv.http.handlers.jobs import plain, public
from deliv.model.job import Job, Listing
from deliv.model.states import Status
from deliv.store import JobEvent

USUAL, MOST = 50, 100  # jobs on a page
# One job's prose may be long; /transferStatus has it.
LEFT_OUT = frozenset({"fts_details", "stager_status", "stager_hostname", "stager_path"})
STEP = ("event_id", "time", "status", "attempt", "staged", "detailed_status", "error_class")


class Transfers(Call):
    """GET /transfers: the caller's jobs, an operator's list has everybody's."""

    accepts = Accepts(
        optional=("status", "submitter", "product_id", "since", "until", "cursor", "limit")
    )

    async def get(self) -> None:
        listing = parse(self.query_parameters())
        owner = listing.submitter
        if owner is None and not self.services.policy.decide(self.identity, "list").allowed:
            owner = self.identity.dn
        self.authorise("list", **({"owner": owner} if owner else {}))
        more = replace(listing, submitter=owner, limit=listing.limit + 1)
        found = await self.services.submissions.page(more)
        shown = found[: listing.limit]
        following = shown[-1].job_id if len(found) > len(shown) else None
        self.write({"transfers": [summary(job) for job in shown], "next": following})


class TransferEvents(Call):
    """GET /transferEvents: every step of one job."""

    accepts = Accepts(required=("job_id",))

    async def get(self) -> None:
        job = await self.services.submissions.job(self.query_parameters()["job_id"])
        self.authorise("events", owner=job.submitter)
        steps = await self.services.submissions.events(job)
        self.write({"job_id": job.job_id, "events": [step(one) for one in steps]})


def parse(values: dict[str, str]) -> Listing:
    """What the parameters of /transfers ask for; InvalidRequest names the one that is wrong."""
    moments = {
        name: parse_moment(name, values[name]) for name in ("since", "until") if name in values
    }
    return Listing(
        submitter=_dn(values.get("submitter")),
        status=_status(values.get("status")),
        product_id=check_product_id(values["product_id"]) if "product_id" in values else None,
        before=_cursor(values.get("cursor")),
        limit=_limit(values.get("limit")),
        **moments,
    )


def summary(job: Job) -> dict[str, Any]:
    return {name: value for name, value in public(job).items() if name not in LEFT_OUT}


def step(event: JobEvent) -> dict[str, Any]:
    values = {name: plain(getattr(event, name)) for name in STEP}
    return {name: value for name, value in values.items() if value is not None}


def _dn(text: str | None) -> str | None:
    if text is not None and not (text.startswith("/") and text.isascii() and text.isprintable()):
        raise InvalidRequest("submitter must be a DN like /DC=org/DC=example/CN=Alice")
    return text


def _status(text: str | None) -> Status | None:
    try:
        return None if text is None else Status(text)
    except ValueError as error:
        raise InvalidRequest(f"status must be one of {', '.join(Status)}") from error


def _cursor(text: str | None) -> str | None:
    try:
        return None if text is None else str(uuid.UUID(text))
    except ValueError as error:
        raise InvalidRequest("cursor must be the `next` of an earlier page") from error


def _limit(text: str | None) -> int:
    if text is None:
        return USUAL
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MOST):
        raise InvalidRequest(f"limit must be a number from 1 to {MOST}")
    return int(text)

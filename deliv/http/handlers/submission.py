"""The calls that submit: one request, as the prototype named it, or many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from deliv.delivery.delegation import decide
from deliv.delivery.submit import MAX_KEY, check_key, new_ids
from deliv.errors import DelivError, Forbidden, InvalidRequest, Unavailable
from deliv.http import types
from deliv.http.call.answers import Answer, DoneAnswer
from deliv.http.call.base import Call
from deliv.http.call.items import Items
from deliv.http.call.parameters import Parameters
from deliv.http.services import Services
from deliv.model.job import Submission, TransferIdentity
from deliv.ops.audit import AuditEntry, AuditEvent, AuditOutcome

MOST = 10_000  # items of one call
LARGEST_BODY = 4 * 2**20  # bytes
BATCH = 250  # items in one transaction
PATIENCE = 20.0  # seconds that a call of many waits for its turn
P = TypeVar("P", bound=Parameters)
Item = TypeVar("Item")
Batch = TypeVar("Batch")
ItemOutcome = TypeVar("ItemOutcome")


class SubmitParameters(Parameters, frozen=True, kw_only=True):
    product_id: types.ProductId
    destination_path: types.Directory
    deadline: types.Deadline | None = None
    label: types.Label | None = None


class SubmitAnswer(DoneAnswer, frozen=True, kw_only=True):
    job_id: types.JobId


class SubmitCall(Call[P]):
    """What both have in common."""

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        # By destination host: the quota, and under whose identity is copied; or why not.
        self.permits: dict[str, tuple[int | None, TransferIdentity] | Forbidden] = {}

    def idempotency_key(self) -> str | None:
        keys = self.request.headers.get_list("Idempotency-Key")
        if len(keys) > 1:
            raise InvalidRequest("the header Idempotency-Key is given more than once")
        return keys[0] if keys else None

    async def submission(
        self, job_id: str, wanted: SubmitParameters, key: str | None
    ) -> Submission:
        """What is wanted, as far as the policy allows it; Forbidden."""
        directory = wanted.destination_path
        quota, copied_as = await self._permit(directory.host)
        return Submission(
            job_id=job_id,
            product_id=wanted.product_id,
            destination_path=directory.url,
            destination_host=directory.host,
            submitter=self.identity.dn,
            idempotency_key=None if key is None else check_key("Idempotency-Key", key),
            quota=quota,
            deadline=wanted.deadline,
            copied_as=copied_as,
            fqans=self.identity.attributes.fqans,
            limited=self.identity.limited,
            label=wanted.label,
        )

    async def _permit(self, host: str) -> tuple[int | None, TransferIdentity]:
        if host not in self.permits:
            try:
                allowed = self.authorise("submit", destination_host=host)
                copied_as = await decide(
                    self.services.delegation, self.identity.dn, allowed.copy_as
                )
                self.permits[host] = (allowed.quota, copied_as)
            except Forbidden as error:
                self.permits[host] = error
        permit = self.permits[host]
        if isinstance(permit, Forbidden):
            raise permit.with_traceback(None)
        return permit

    def record(self, accepted: int, refused: int) -> None:
        """In the audit log: the numbers, and each host that the policy refuses."""
        self.audit_line.note(accepted=accepted, refused=refused)
        if len(self.permits) > 1:
            self.audit_line.note(destination_host=None, rule=None)
        entry = AuditEntry(
            event=AuditEvent.DECISION,
            outcome=AuditOutcome.REFUSED,
            dn=self.identity.dn,
            limited=self.identity.limited,
            action="submit",
            request_id=self.request_id,
        )
        for host, permit in self.permits.items():
            if isinstance(permit, Forbidden):
                self.services.audit.write(replace(entry, destination_host=host, reason=str(permit)))


class SubmitTransfer(SubmitCall[SubmitParameters]):
    """POST /submitTransfer: 202 and the job's id."""

    path = "/submitTransfer"
    accepts = SubmitParameters
    error_fields: ClassVar[dict[str, Any]] = {"job_id": None}

    async def post(self) -> None:
        key = self.idempotency_key()
        (job_id,) = new_ids(1)
        wanted = await self.submission(job_id, self.body_parameters(), key)
        job = await self.services.submissions.submit(wanted)
        self.audit_line.note(job_id=job.job_id)
        self.answer(SubmitAnswer(job_id=job.job_id, msg="accepted for delivery"), 202)


class SubmitItem(SubmitParameters, frozen=True, kw_only=True):
    """The parameters of /submitTransfer, and a key of its own."""

    idempotency_key: types.IdempotencyKey | None = None


class SubmitManyParameters(Parameters, frozen=True, kw_only=True):
    transfers: Annotated[list[SubmitItem], Meta(min_length=1, max_length=MOST)]


class SubmitOutcome(Answer, frozen=True, kw_only=True):
    """Of one item: the status that /submitTransfer would have answered, 202 with the job's id."""

    code: int
    job_id: types.JobId | UnsetType = UNSET
    msg: types.Text | UnsetType = UNSET


class SubmitManyAnswer(DoneAnswer, frozen=True, kw_only=True):
    accepted: Annotated[int, Meta(ge=0)]
    refused: Annotated[int, Meta(ge=0)]
    outcomes: Annotated[
        list[SubmitOutcome],
        Meta(description="One for each item, in their order.", min_length=1, max_length=MOST),
    ]


class SubmitTransfers(SubmitCall[SubmitManyParameters]):
    """POST /submitTransfers: 200 and an outcome for each item.

    One call of a caller is read and answered at a time, batch by batch, so that others have theirs
    in between.
    """

    path = "/submitTransfers"
    accepts = SubmitManyParameters
    body_limit = LARGEST_BODY
    has_turn = answering = False

    async def before_body(self) -> None:
        await self.services.many.acquire(self.identity.dn, PATIENCE)
        self.has_turn = True

    async def post(self) -> None:
        self.answering = True
        try:
            outcomes = await self._outcomes()
        finally:
            self.answering = False
            self._leave()
        accepted = sum(outcome.code == 202 for outcome in outcomes)
        refused = len(outcomes) - accepted
        self.record(accepted, refused)
        msg = f"{accepted} of {len(outcomes)} accepted for delivery"
        answer = SubmitManyAnswer(accepted=accepted, refused=refused, outcomes=outcomes, msg=msg)
        self.finish(msgspec.json.encode(answer))

    async def _outcomes(self) -> list[SubmitOutcome]:
        self.no_query()
        content_type = self.request.headers.get("Content-Type", "")
        items = Items(SubmitItem, "transfers", MOST, content_type, self.body())
        key = self.idempotency_key()
        if key is not None and len(key) > (longest := MAX_KEY - len(f"#{MOST}")):
            raise InvalidRequest(f"Idempotency-Key of many must have at most {longest} characters")
        return await in_batches(
            range(len(items)),
            lambda places: self._read(items, places, key),
            lambda batch: self._submit(*batch),
            _refused,
        )

    async def _read(
        self, items: Items[SubmitItem], places: Sequence[int], key: str | None
    ) -> tuple[dict[int, Submission], dict[int, SubmitOutcome]]:
        """What is wanted, and what is refused, by place.

        An item without a key has the call's, with its place counted from 1.
        """
        wanted: dict[int, Submission] = {}
        outcomes: dict[int, SubmitOutcome] = {}
        for place, job_id in zip(places, new_ids(len(places)), strict=True):
            derived = None if key is None else f"{key}#{place + 1}"
            try:
                item = items.read(place)
                own = item.idempotency_key or derived
                wanted[place] = await self.submission(job_id, item, own)
            except (InvalidRequest, Forbidden) as error:
                outcomes[place] = _refused(error)
        return wanted, outcomes

    async def _submit(
        self, wanted: dict[int, Submission], refused: dict[int, SubmitOutcome]
    ) -> list[SubmitOutcome]:
        outcomes = dict(refused)
        if wanted:
            taken = await self.services.submissions.submit_many(list(wanted.values()))
            outcomes |= {
                place: _refused(found)
                if isinstance(found, DelivError)
                else SubmitOutcome(code=202, job_id=found.job_id)
                for place, found in zip(wanted, taken, strict=True)
            }
        return [outcomes[place] for place in sorted(outcomes)]

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._leave()

    def on_finish(self) -> None:
        super().on_finish()
        self._leave()

    def _leave(self) -> None:
        """Whoever is next has their turn, unless this call still works on its items."""
        if self.has_turn and not self.answering:
            self.has_turn = False
            self.services.many.release(self.identity.dn)


async def in_batches(
    items: Sequence[Item],
    prepare: Callable[[Sequence[Item]], Awaitable[Batch]],
    store: Callable[[Batch], Coroutine[Any, Any, list[ItemOutcome]]],
    refused: Callable[[Unavailable], ItemOutcome],
) -> list[ItemOutcome]:
    """An outcome for each item: where the database goes away after some, that for the others.

    While one batch is stored the next is prepared.
    """
    outcomes: list[ItemOutcome] = []
    try:
        batch = await prepare(items[:BATCH])
        for start in range(BATCH, len(items) + BATCH, BATCH):
            storing = asyncio.create_task(store(batch))
            await asyncio.sleep(0)  # it begins
            try:
                batch = await prepare(items[start : start + BATCH])
            finally:
                outcomes += await storing
    except Unavailable as error:
        if not outcomes:
            raise
        outcomes += [refused(error)] * (len(items) - len(outcomes))
    return outcomes


def _refused(error: DelivError) -> SubmitOutcome:
    return SubmitOutcome(code=error.status, msg=error.public or str(error))

"""One FTS3 server: hand copies over, ask how they fare, cancel them.

    endpoint.welcome()             whether FTS is there for deliv just now
    endpoint.ensure_delegated()    FTS may act as deliv; renewed before it is short
    endpoint.undelegate()          FTS forgets what was delegated to it
    endpoint.job_id(sid)           the id a copy will have, known before FTS hears of it
    endpoint.submit(transfer)      repeating it never copies twice
    endpoint.finished(minutes)     what ended lately: job id -> state
    endpoint.unfinished()          what has not: job id -> state
    endpoint.details(ids)          job id -> Outcome; an id that FTS has lost is left out
    endpoint.origins(ids)          job id -> whom an unfinished job is for
    endpoint.cancel(job_id)        the state the job is in then

Every call raises Unreachable when FTS gives no answer of its own (time-out, server error, HTML,
breaker open): the outcome is open, calling again is safe. Refused carries FTS's code and message.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from typing import TypeVar
from urllib.parse import quote

import msgspec
import structlog

from deliv import config
from deliv.errors import Refused
from deliv.gateways.breaker import Breaker, State
from deliv.gateways.fts.answers import (
    FILE_FIELDS,
    Accepted,
    File,
    Job,
    Listed,
    Origin,
    Whoami,
    read,
)
from deliv.gateways.fts.delegation import Delegation
from deliv.gateways.fts.outcomes import ACTIVE, TERMINAL, Outcome, outcome, unclear
from deliv.gateways.fts.transfer import Transfer, submission
from deliv.gateways.fts.transport import AUTHENTICATION_TIMEOUT, Transport, is_fts, refusal
from deliv.gateways.https import HttpsClient, Response

log = structlog.get_logger()

T = TypeVar("T")

MOMENT = 2.0  # seconds
BULK = 100  # FTS answers more than 109 ids with an HTML 404
JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who FTS takes deliv for: GET /whoami."""

    user_dn: str
    delegation_id: str
    vos_id: tuple[str, ...]


class Endpoint:
    def __init__(
        self,
        name: str,
        url: str,
        settings: config.Fts,
        https: HttpsClient,
        breaker: Breaker,
    ) -> None:
        self.name = name
        self.breaker = breaker
        timeout = float(settings.request_timeout)
        self._transport = Transport(name, url, https, timeout, self.breaker)
        self._max_time_in_queue = settings.max_time_in_queue
        self._identity: tuple[int, Identity] | None = None
        self.delegation = Delegation(
            self._transport,
            lifetime=settings.delegation,
            renew_below=settings.renew_below,
            timeout=timeout,
        )

    async def whoami(self) -> Identity:
        """Cached until deliv's certificate changes. Refused when FTS does not know deliv."""
        version = self._transport.credential_version
        if self._identity is None or self._identity[0] != version:
            self._identity = (version, await self._ask_identity())
        return self._identity[1]

    async def probe(self) -> str:
        """For readiness: asks FTS who deliv is; one sentence when all is well."""
        identity = await self._ask_identity()
        return f"answers to {identity.user_dn}, {self._delegation_left()}"

    async def welcome(self) -> None:
        """Unavailable or Refused unless FTS is there for deliv.

        It is asked unless it was heard of a moment ago.
        """
        if self.breaker.silent_for >= MOMENT or self.breaker.state is not State.CLOSED:
            self._identity = None
        await self.whoami()

    async def ensure_delegated(self) -> None:
        """See that FTS may act as deliv for long enough; many callers delegate once."""
        await self.delegation.ensure()

    async def job_id(self, sid: str) -> str:
        """The id FTS gives to the submission with this sid (its deterministic generator)."""
        identity = await self.whoami()
        return str(uuid.uuid5(uuid.UUID(identity.vos_id[0]), sid))

    async def submit(self, transfer: Transfer, job_id: str | None = None) -> str:
        """Hand a copy over; its id. The same sid again gives the same id and no second copy.

        `job_id` is the id noted for it earlier: should FTS give another, since it takes deliv for
        somebody else by now, the copy is withdrawn. Refused: 409, another transfer to that
        destination is under way; 419 as DelegationNeeded, FTS wants more life than deliv's
        certificate has.
        """
        body = submission(transfer, max_time_in_queue=self._max_time_in_queue)
        expected = job_id or await self.job_id(transfer.sid)
        answer = await self._post(body)
        if answer.status == HTTPStatus.OK:
            return await self._accepted(read(answer, Accepted).job_id, expected)
        if answer.status == HTTPStatus.CONFLICT and await self._exists(expected):
            return expected
        raise refusal(self.name, answer)

    async def finished(self, minutes: int) -> dict[str, str]:
        """The jobs of deliv's VO that ended in the last `minutes` by FTS's clock."""
        window = f"{minutes // 60}:{minutes % 60}"
        return await self._list(f"state_in={','.join(TERMINAL)}&time_window={window}&")

    async def unfinished(self) -> dict[str, str]:
        """The jobs of deliv's VO that have not ended."""
        return await self._list("")

    async def details(self, ids: Iterable[str]) -> dict[str, Outcome]:
        """What became of these jobs. Left out are those that FTS has neither live nor archived.

        UNKNOWN stands for an id that FTS gave no usable answer about.
        """
        found: dict[str, Outcome] = {}
        wanted = iter(dict.fromkeys(ids))
        while chunk := list(islice(wanted, BULK)):
            found |= await self._bulk(chunk)
        return found

    async def origins(self, ids: Iterable[str]) -> dict[str, Origin]:
        """Those of these jobs that are unfinished, with the metadata they were submitted with."""
        found: dict[str, Origin] = {}
        wanted = iter(dict.fromkeys(ids))
        while chunk := list(islice(wanted, BULK)):
            found |= {job.job_id: job for job in await self._described(chunk, Origin)}
        return {job_id: job for job_id, job in found.items() if job.job_state in ACTIVE}

    async def cancel(self, job_id: str) -> str | None:
        """Stop a job; its state then, which is not CANCELED if it ended before. None: unknown.

        A copy under way stops within about ten seconds and leaves a part at the destination.
        """
        answer = await self._transport.call("DELETE", f"/jobs/{quote(job_id, safe='')}")
        if answer.status == HTTPStatus.NOT_FOUND and is_fts(answer):
            return None
        if answer.status != HTTPStatus.OK:
            raise refusal(self.name, answer)
        return read(answer, Listed).job_state

    async def undelegate(self) -> None:
        """Have FTS forget what was delegated to it; fine when it has nothing."""
        path = f"/delegation/{quote((await self.whoami()).delegation_id, safe='')}"
        answer = await self._transport.call("DELETE", path)
        missing = answer.status == HTTPStatus.NOT_FOUND and is_fts(answer)
        if answer.status not in {HTTPStatus.OK, HTTPStatus.NO_CONTENT} and not missing:
            raise refusal(self.name, answer)

    async def _ask_identity(self) -> Identity:
        known = await self._transport.get("/whoami", Whoami)
        if known.delegation_id is None or not known.vos_id:
            raise Refused(
                f"FTS {self.name} did not accept deliv's certificate", code=HTTPStatus.FORBIDDEN
            )
        return Identity(
            user_dn=known.user_dn, delegation_id=known.delegation_id, vos_id=known.vos_id
        )

    def _delegation_left(self) -> str:
        if self.delegation.until is None:
            return "nothing delegated yet"
        hours = (self.delegation.until - datetime.now(UTC)).total_seconds() / 3600
        return f"delegated for {hours:.1f} h"

    async def _post(self, body: bytes) -> Response:
        generation = self.delegation.generation
        answer = await self._transport.call("POST", "/jobs", body, JSON)
        if answer.status != AUTHENTICATION_TIMEOUT:
            return answer
        await self.delegation.renew(generation)
        return await self._transport.call("POST", "/jobs", body, JSON)

    async def _accepted(self, given: str, expected: str) -> str:
        """The id has to be the one deliv has noted, else the copy could not be found again."""
        if given == expected:
            return given
        self._identity = None
        await self.cancel(given)
        reason = f"FTS {self.name} named the job {given}, not {expected}: deliv's identity changed"
        raise Refused(reason, code=HTTPStatus.FORBIDDEN)

    async def _exists(self, job_id: str) -> bool:
        """Tells FTS's two 409s apart: the sid's own job exists, or another has the destination."""
        answer = await self._transport.call("GET", f"/jobs/{quote(job_id, safe='')}")
        if answer.status == HTTPStatus.OK:
            return read(answer, Listed).job_id == job_id
        if answer.status == HTTPStatus.NOT_FOUND and is_fts(answer):
            return False
        raise refusal(self.name, answer)

    async def _list(self, query: str) -> dict[str, str]:
        path = f"/jobs?{query}fields=job_id,job_state"
        jobs = await self._transport.get(path, tuple[Listed, ...])
        return {job.job_id: job.job_state for job in jobs}

    async def _bulk(self, ids: Sequence[str]) -> dict[str, Outcome]:
        jobs = await self._jobs(ids)
        found = {}
        for job_id in ids:
            job = jobs.get(job_id)
            if job is None:
                found[job_id] = unclear("FTS left it out of its answer")
            elif job.code == HTTPStatus.NOT_FOUND:
                found |= await self._archived(job_id)
            elif job.code != HTTPStatus.OK:
                found[job_id] = unclear(job.http_message or str(job.http_status))
            else:
                found[job_id] = outcome(job)
        return found

    async def _jobs(self, ids: Sequence[str]) -> dict[str, Job]:
        """By id, those unknown to FTS too, with a 404 of their own: 207 when there are some."""
        return {job.job_id: job for job in await self._described(ids, Job)}

    async def _described(self, ids: Sequence[str], kind: type[T]) -> Sequence[T]:
        """The bulk answer about these ids, each read as `kind`; a single one comes by itself."""
        path = ",".join(quote(job_id, safe="") for job_id in ids)
        answer = await self._transport.call("GET", f"/jobs/{path}?files={','.join(FILE_FIELDS)}")
        if not _about_jobs(answer):
            raise refusal(self.name, answer)
        several = answer.body.lstrip().startswith(b"[")
        return read(answer, list[kind]) if several else [read(answer, kind)]  # type: ignore[valid-type]  # mypy takes no variable

    async def _archived(self, job_id: str) -> dict[str, Outcome]:
        """FTS keeps a job for a week, then in its archive; nothing when it is not there either."""
        path = f"/archive/{quote(job_id, safe='')}"
        answer = await self._transport.call("GET", path)
        if answer.status == HTTPStatus.NOT_FOUND and is_fts(answer):
            return {}
        if answer.status != HTTPStatus.OK:
            raise refusal(self.name, answer)
        job = read(answer, Job)
        if job.files is None:
            job = msgspec.structs.replace(job, files=await self._archived_files(path))
        return {job_id: outcome(job)}

    async def _archived_files(self, path: str) -> tuple[File, ...]:
        answer = await self._transport.call("GET", f"{path}/files")
        return read(answer, tuple[File, ...]) if answer.status == HTTPStatus.OK else ()


def _about_jobs(answer: Response) -> bool:
    """Of errors, only those that name a job; the others concern the call as a whole."""
    return answer.status in {HTTPStatus.OK, HTTPStatus.MULTI_STATUS} or b'"job_id"' in answer.body

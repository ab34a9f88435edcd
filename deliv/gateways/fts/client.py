"""One FTS3 server: submit copies, ask for their state, cancel them.

    endpoint.check_ready()         whether FTS accepts calls of deliv just now
    endpoint.ensure_delegated()    FTS may act as deliv; renewed before it is short
    endpoint.undelegate()          FTS forgets what was delegated to it
    endpoint.job_id(sid)           the id a copy will have, known before it is submitted
    endpoint.submit(transfer)      repeating it never copies twice
    endpoint.finished(minutes)     what ended lately: job id -> state
    endpoint.unfinished()          what has not: job id -> state
    endpoint.running()             of those the ids whose state deliv knows
    endpoint.details(ids)          job id -> TransferOutcome; an id that FTS has lost is left out
    endpoint.progress(ids)         job id -> how many of its files are being copied, and have been
    endpoint.origins(ids)          job id -> whom an unfinished job is for
    endpoint.cancel(job_id)        the state the job is in then

Every call raises Unreachable when FTS gives no answer of its own (time-out, server error, HTML,
breaker open): the outcome is unknown, calling again is safe. Refused has FTS's code and message.
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
from deliv.errors import Refused, Unavailable
from deliv.gateways.breaker import Breaker, BreakerState
from deliv.gateways.fts.answers import (
    FILE_FIELDS,
    Accepted,
    FileAnswer,
    JobAnswer,
    Listed,
    Origin,
    WhoamiAnswer,
    read,
    read_each,
)
from deliv.gateways.fts.delegation import FtsDelegation
from deliv.gateways.fts.outcomes import (
    ACTIVE,
    TERMINAL,
    TransferOutcome,
    forbidden,
    outcome,
    progress,
    unclear,
)
from deliv.gateways.fts.transfer import Transfer, submission
from deliv.gateways.fts.transport import AUTHENTICATION_TIMEOUT, FtsTransport, is_fts, refusal
from deliv.gateways.https import HttpsClient
from deliv.model.transfer import Progress
from deliv.ops import metrics

log = structlog.get_logger()

T = TypeVar("T")

MOMENT, LATELY = 2.0, 10.0  # seconds
BULK = 100  # FTS answers more than 109 ids with an HTML 404
WATCHED_AT_ONCE = 20  # transfers of up to a thousand files
CALL_COST = 10_000  # bytes
JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class FtsIdentity:
    """Who FTS takes deliv for: GET /whoami."""

    user_dn: str
    delegation_id: str
    vos_id: tuple[str, ...]


class Endpoint:
    def __init__(
        self,
        name: str,
        url: str,
        settings: config.FtsSettings,
        https: HttpsClient,
        breaker: Breaker,
        of_user: bool = False,
    ) -> None:
        self.name = name
        self.breaker = breaker
        timeout = float(settings.request_timeout)
        self._transport = FtsTransport(name, url, https, timeout, self.breaker, of_user=of_user)
        # By themselves: failing archives or cancellations say nothing of what FTS is working on.
        self._archive = FtsTransport(name, url, https, timeout, Breaker(), of_user=of_user)
        self.cancel_breaker = Breaker()
        self._cancels = FtsTransport(
            name, url, https, timeout, self.cancel_breaker, "cancel", of_user=of_user
        )
        self._max_time_in_queue = settings.max_time_in_queue
        self._identity: tuple[int, FtsIdentity] | None = None
        self.delegation = FtsDelegation(
            self._transport,
            lifetime=settings.delegation,
            renew_below=settings.renew_below,
            timeout=timeout,
        )

    async def whoami(self) -> FtsIdentity:
        """Cached until deliv's certificate changes. Refused when FTS does not know deliv."""
        version = self._transport.credential_version
        if self._identity is None or self._identity[0] != version:
            self._identity = (version, await self._ask_identity())
        return self._identity[1]

    async def probe(self) -> str:
        """For readiness: one sentence when all is well.

        FTS is asked who deliv is, unless it has served deliv lately: each call counts there.
        """
        if self._transport.served_ago >= LATELY:
            self._identity = None
        identity, until = await self.whoami(), self.delegation.until
        delegated = "nothing delegated yet"
        if until is not None:
            hours = (until - datetime.now(UTC)).total_seconds() / 3600
            delegated = f"delegated for {hours:.1f} h"
        return f"answers to {identity.user_dn}, {delegated}"

    async def check_ready(self) -> None:
        """Unavailable or Refused unless FTS accepts calls of deliv.

        It is asked unless it has answered a moment ago.
        """
        if self.breaker.silent_for >= MOMENT or self.breaker.state is not BreakerState.CLOSED:
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
        """Submit a copy; its id. The same sid again gives the same id and no second copy.

        `job_id` is the id stored for it earlier: should FTS give another, since it takes deliv for
        somebody else by now, the copy is withdrawn. Refused: 409, another transfer to that
        destination is under way; 419 as DelegationNeeded, FTS wants more life than deliv's
        certificate has.
        """
        body = submission(transfer, max_time_in_queue=self._max_time_in_queue)
        expected = job_id or await self.job_id(transfer.sid)
        generation = self.delegation.generation
        answer = await self._transport.call("POST", "/jobs", body, JSON)
        if answer.status == AUTHENTICATION_TIMEOUT:
            await self.delegation.renew(generation)
            answer = await self._transport.call("POST", "/jobs", body, JSON)
        if answer.status == HTTPStatus.CONFLICT and await self._exists(expected):
            return expected
        if answer.status != HTTPStatus.OK:
            raise refusal(self.name, answer)
        given = read(answer, Accepted).job_id
        if given != expected:  # under another id than was stored the copy could not be found again
            self._identity = None
            await self.cancel(given)
            reason = f"FTS {self.name} named the job {given}, not {expected}"
            raise Refused(f"{reason}: deliv's identity changed", code=HTTPStatus.FORBIDDEN)
        return given

    async def finished(self, minutes: int) -> dict[str, str]:
        """The jobs of deliv's VO that ended in the last `minutes` by FTS's clock."""
        window = f"{minutes // 60}:{minutes % 60}"
        return await self._list(f"state_in={','.join(TERMINAL)}&time_window={window}&")

    async def unfinished(self) -> dict[str, str]:
        """The jobs of deliv's VO that have not ended."""
        return await self._list("")

    async def running(self) -> frozenset[str]:
        """The unfinished jobs' ids, but for those in a state that deliv does not know."""
        listed = (await self.unfinished()).items()
        return frozenset(job_id for job_id, state in listed if state in ACTIVE)

    async def details(self, ids: Iterable[str]) -> dict[str, TransferOutcome]:
        """What became of these jobs. Left out are those that FTS has neither live nor archived.

        UNKNOWN stands for an id that FTS gave no usable answer about, FORBIDDEN for one that it has
        and does not let deliv see.
        """
        found: dict[str, TransferOutcome] = {}
        wanted = iter(dict.fromkeys(ids))
        while chunk := list(islice(wanted, BULK)):
            # Those unknown to FTS are in the answer too, with a 404 of their own.
            readable, unreadable = read_each(await self._described(chunk), JobAnswer)
            jobs = {job.job_id: job for job in readable}
            for job_id in chunk:
                job = jobs.get(job_id)
                if job is None:
                    left_out = "FTS left it out of its answer"
                    found[job_id] = unclear(unreadable.get(job_id, left_out))
                elif job.code == HTTPStatus.NOT_FOUND:
                    archived = await self._archived(job_id)
                    found |= {job_id: archived} if archived is not None else {}
                elif job.code == HTTPStatus.FORBIDDEN:
                    found[job_id] = forbidden(job.http_message or str(job.http_status))
                elif job.code != HTTPStatus.OK:
                    found[job_id] = unclear(job.http_message or str(job.http_status))
                else:
                    found[job_id] = outcome(job)
        return found

    async def progress(
        self, ids: Iterable[str], *, whole: bool = False
    ) -> tuple[dict[str, Progress], dict[str, TransferOutcome], int]:
        """How far these jobs are, of those that FTS tells it; and what that cost FTS, in bytes.

        If `whole`, also what became of those that are over, which has to be asked for anyway: such
        a call costs CALL_COST, the least that one costs.
        """
        found: dict[str, Progress] = {}
        outcomes: dict[str, TransferOutcome] = {}
        cost = 0
        wanted = iter(dict.fromkeys(ids))
        while chunk := list(islice(wanted, WATCHED_AT_ONCE)):
            fields = FILE_FIELDS if whole else ("file_id", "file_state")
            elements = await self._described(chunk, fields)
            size = 0 if whole else sum(len(element) for element in elements)
            cost += max(CALL_COST, size)
            readable, _ = read_each(elements, JobAnswer)
            shown = [job for job in readable if job.files]
            found |= {job.job_id: progress(job) for job in shown}
            if whole:
                outcomes |= {job.job_id: outcome(job) for job in shown if job.job_state in TERMINAL}
        return found, outcomes, cost

    async def origins(self, ids: Iterable[str]) -> dict[str, Origin]:
        """Those of these jobs that are unfinished, with the metadata they were submitted with."""
        found: dict[str, Origin] = {}
        wanted = iter(dict.fromkeys(ids))
        while chunk := list(islice(wanted, BULK)):
            described = self._readable(await self._described(chunk), Origin)
            found |= {job.job_id: job for job in described}
        return {job_id: job for job_id, job in found.items() if job.job_state in ACTIVE}

    async def cancel(self, job_id: str) -> str | None:
        """Stop a job; its state then, which is not CANCELED if it ended before. None: unknown.

        A copy under way stops within about ten seconds and leaves a part at the destination.
        """
        answer = await self._cancels.call("DELETE", f"/jobs/{quote(job_id, safe='')}")
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

    async def _ask_identity(self) -> FtsIdentity:
        known = await self._transport.get("/whoami", WhoamiAnswer)
        if known.delegation_id is None or not known.vos_id:
            raise Refused(
                f"FTS {self.name} did not accept deliv's certificate", code=HTTPStatus.FORBIDDEN
            )
        return FtsIdentity(
            user_dn=known.user_dn, delegation_id=known.delegation_id, vos_id=known.vos_id
        )

    async def _exists(self, job_id: str) -> bool:
        """Tells FTS's two 409s apart: the sid's own job exists, or another has the destination.

        One that FTS does not let deliv see exists, too.
        """
        answer = await self._transport.call("GET", f"/jobs/{quote(job_id, safe='')}")
        if answer.status == HTTPStatus.OK:
            return read(answer, Listed).job_id == job_id
        if answer.status == HTTPStatus.NOT_FOUND and is_fts(answer):
            return False
        if answer.status == HTTPStatus.FORBIDDEN and is_fts(answer):
            return True
        raise refusal(self.name, answer)

    async def _list(self, query: str) -> dict[str, str]:
        path = f"/jobs?{query}fields=job_id,job_state"
        jobs = await self._transport.get(path, tuple[msgspec.Raw, ...])
        return {job.job_id: job.job_state for job in self._readable(jobs, Listed)}

    def _readable(self, elements: Sequence[msgspec.Raw], kind: type[T]) -> list[T]:
        readable, unreadable = read_each(elements, kind)
        for job_id, reason in unreadable.items():
            metrics.FTS_UNUSABLE_ANSWERS.labels(endpoint=self.name).inc()
            log.warning("an element of a list can't be read", fts_jobid=job_id, reason=reason)
        return readable

    async def _described(
        self, ids: Sequence[str], fields: Sequence[str] = FILE_FIELDS
    ) -> Sequence[msgspec.Raw]:
        """What FTS answers about each of these ids; about a single one it is no list."""
        path = ",".join(quote(job_id, safe="") for job_id in ids)
        answer = await self._transport.call("GET", f"/jobs/{path}?files={','.join(fields)}")
        answered = answer.status in {HTTPStatus.OK, HTTPStatus.MULTI_STATUS}
        # An error that names no job concerns the call as a whole.
        if not answered and b'"job_id"' not in answer.body:
            raise refusal(self.name, answer)
        several = answer.body.lstrip().startswith(b"[")
        return read(answer, tuple[msgspec.Raw, ...]) if several else (read(answer, msgspec.Raw),)

    async def _archived(self, job_id: str) -> TransferOutcome | None:
        """FTS keeps a job for a week, then in its archive; None when it is not there either."""
        try:
            job = await self._archived_job(job_id)
        except (Unavailable, Refused) as error:
            hidden = isinstance(error, Refused) and error.code == HTTPStatus.FORBIDDEN
            return forbidden(str(error)) if hidden else unclear(str(error))
        return outcome(job) if job is not None else None

    async def _archived_job(self, job_id: str) -> JobAnswer | None:
        path = f"/archive/{quote(job_id, safe='')}"
        answer = await self._archive.call("GET", path)
        if answer.status == HTTPStatus.NOT_FOUND and is_fts(answer):
            return None
        if answer.status != HTTPStatus.OK:
            raise refusal(self.name, answer)
        job = read(answer, JobAnswer)
        if job.files is None:
            listed = await self._archive.call("GET", f"{path}/files")
            found = listed.status == HTTPStatus.OK
            files = read(listed, tuple[FileAnswer, ...]) if found else ()
            job = msgspec.structs.replace(job, files=files)
        return job

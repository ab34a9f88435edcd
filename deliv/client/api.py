"""deliv's calls as methods."""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from deliv.client.credentials import CallerCredential
from deliv.client.errors import BadAnswer, Conflict, Rejected, StillRunning
from deliv.client.transport import ClientTransport, HttpAnswer, Notice

TIMEOUT = 30.0
PATIENCE = 20.0
WAITING_PATIENCE = 600.0
FIRST_POLL, LONGEST_POLL = 0.5, 15.0
HEADER_KEY = re.compile(r"[ -~]{1,255}")
LARGEST_PAGE = 100  # jobs or files
MOST_NAMED = 1000  # jobs in one call
FINAL = frozenset({"SUCCESS", "ERROR", "CANCELLED"})

Status = Mapping[str, Any]


def ended(answer: Status) -> bool:
    """Whether a job's status is final."""
    return answer.get("status") in FINAL


def delivered(answer: Status) -> bool:
    return answer.get("status") == "SUCCESS"


class Client:
    """deliv at `url`, called with a certificate and key (of a proxy both are the one file).

    `ca` is a directory of CA certificates as the grid has it, or a file. A deliv that does not
    answer is tried again for `patience` seconds; `notice` is called with a line about each try. Not
    for several threads at once: make one for each. Errors: see deliv.client.errors.
    """

    def __init__(
        self,
        url: str,
        cert: str | PathLike[str],
        key: str | PathLike[str],
        ca: str | PathLike[str],
        *,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
        notice: Notice = lambda message: None,
    ) -> None:
        credential = CallerCredential(cert=Path(cert), key=Path(key))
        self._transport = ClientTransport(url, credential, Path(ca), timeout=timeout, notice=notice)
        self._patience = patience

    def submit(
        self,
        product_id: str,
        destination_path: str,
        *,
        idempotency_key: str | None = None,
        deadline: datetime | None = None,
        label: str | None = None,
    ) -> str:
        """Ask for a delivery into a GridFTP directory; the job's id.

        Repeated calls with one key are one job. Without a key a new one is made, so that a lost
        answer never makes two jobs. After `deadline` (with its time zone) the job is stopped.
        `label` names the campaign that it is of.
        """
        if idempotency_key == "":
            raise Rejected("the idempotency key is empty: give one, or none at all", status=400)
        if idempotency_key is not None and not HEADER_KEY.fullmatch(idempotency_key):
            msg = "the idempotency key must be 1 to 255 printable ASCII characters"
            raise Rejected(msg, status=400)
        fields = {"product_id": product_id, "destination_path": destination_path}
        if deadline is not None:
            fields["deadline"] = deadline.isoformat()
        if label is not None:
            fields["label"] = label
        key = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return _text(self._post("/submitTransfer", fields, key), "job_id")

    def submit_many(
        self, items: Sequence[Mapping[str, str]], *, idempotency_key: str | None = None
    ) -> list[dict[str, Any]]:
        """Ask for many deliveries, at most 10,000; an outcome for each, in their order.

        An item has `product_id` and `destination_path`, and may have `deadline` (ISO 8601), `label`
        and an `idempotency_key` of its own. Its outcome is {"code": 202, "job_id"}, or where it is
        refused {"code", "msg"}. Repeated calls with one key and the same items are the same jobs.
        What the database was too busy for is tried again, as a whole call is.
        """
        body = json.dumps({"transfers": [dict(item) for item in items]}).encode("ascii")
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key or uuid.uuid4().hex,
        }
        deadline = time.monotonic() + self._patience
        while True:
            answer = self._transport.call(
                "POST", "/submitTransfers", body=body, headers=headers, patience=self._patience
            )
            outcomes = _list(answer.document, "outcomes")
            if len(outcomes) != len(items):
                raise BadAnswer("the answer has not one outcome for each item: is this deliv?")
            if all(one.get("code") != 503 for one in outcomes) or time.monotonic() > deadline:
                return outcomes
            time.sleep(FIRST_POLL)

    def status(self, job_id: str) -> dict[str, Any]:
        """All that deliv says of a job; docs/api.md names the fields."""
        return self._status(job_id, self._patience).document

    def wait(
        self,
        job_id: str,
        *,
        timeout: float | None = None,
        on_status: Callable[[Status], None] = lambda answer: None,
    ) -> dict[str, Any]:
        """Ask until the job has ended; its last status. StillRunning after `timeout` seconds.

        `on_status` is called with every answer. Asks less and less often while nothing changes, or
        as often as the server's Retry-After says. An outage of deliv is waited out.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, last = FIRST_POLL, None
        while True:
            answer = self._status(job_id, WAITING_PATIENCE)
            on_status(answer.document)
            if ended(answer.document):
                return answer.document
            state = answer.document.get("status"), answer.document.get("time_staged")
            pause = FIRST_POLL if state != last else min(LONGEST_POLL, pause * 1.5)
            last = state
            wanted = pause if answer.retry_after is None else answer.retry_after
            seconds = max(0.1, wanted) * random.uniform(0.9, 1.1)  # noqa: S311  spread the callers
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise StillRunning(f"job {job_id} has not ended yet; it goes on")
                seconds = min(seconds, left)
            time.sleep(seconds)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Withdraw a job; {"job_id", "status", "error", "msg"}.

        `status` is CANCELLED, or TRANSFERRING while FTS has yet to stop the copy: `wait` waits for
        that. Conflict when the job has ended otherwise; one that is cancelled already is no error,
        since an answer may have been lost.
        """
        try:
            return self._post("/cancelTransfer", {"job_id": job_id}).document
        except Conflict:
            status = self.status(job_id)["status"]
            if status != "CANCELLED":
                raise
        return {"job_id": job_id, "status": status, "error": False, "msg": "cancelled before"}

    def cancel_label(self, label: str, submitter: str | None = None) -> Iterator[dict[str, Any]]:
        """Withdraw what has not ended of a label's jobs; an outcome for each, as they come.

        {"job_id", "code", "status", "msg"}: without `status` where it was refused. What FTS is
        being asked to stop already has none. `submitter`: another user's label, for operators.
        """
        fields = {"label": label} | ({} if submitter is None else {"submitter": submitter})
        refused = set[str]()
        while True:
            answer = self._post("/cancelTransfer", fields).document
            outcomes = _list(answer, "outcomes")
            new = [one for one in outcomes if one.get("job_id") not in refused]
            yield from new
            refused |= {str(one.get("job_id")) for one in outcomes if "status" not in one}
            if not answer.get("left") or not new:
                return

    def retry(
        self, job_ids: Sequence[str], *, deadline: datetime | None = None
    ) -> Iterator[dict[str, Any]]:
        """Submit once more what ended in ERROR of these jobs; an outcome for each, in their order.

        {"code": 202, "job_id", "status", "retry_of"} with the new job, which has the deadline of
        the old one unless that is over, or the `deadline` that is given (with its time zone);
        {"code": 200, "job_id", "status", "skipped"} with the job that has not failed, itself or the
        last one that repeats it, and why; or where it is refused {"code", "job_id", "msg"}.
        Repeated calls make no second job.
        """
        for start in range(0, len(job_ids), MOST_NAMED):
            some = list(job_ids[start : start + MOST_NAMED])
            outcomes = _list(self._retry({"job_ids": some}, deadline), "outcomes")
            if len(outcomes) != len(some):
                raise BadAnswer("the answer has not one outcome for each job: is this deliv?")
            yield from outcomes

    def retry_label(
        self, label: str, *, deadline: datetime | None = None
    ) -> Iterator[dict[str, Any]]:
        """Submit once more what ended in ERROR of a label's jobs; outcomes as those of `retry`.

        Those submitted last come first; of several that repeat each other the last has one.
        """
        fields: dict[str, Any] = {"label": label}
        while True:
            answer = self._retry(fields, deadline)
            yield from _list(answer, "outcomes")
            if not isinstance(answer.get("next"), str):
                return
            fields["cursor"] = answer["next"]

    def totals(self, label: str, submitter: str | None = None) -> dict[str, int]:
        """How many jobs of each status a label has."""
        given = {"label": label, "limit": "1"} | ({"submitter": submitter} if submitter else {})
        path = f"/transfers?{_encoded(given).decode()}"
        totals = self._transport.call("GET", path, patience=self._patience).document.get("totals")
        if not isinstance(totals, dict):
            raise BadAnswer("the answer has no totals: is this deliv?")
        return totals

    def whoami(self) -> dict[str, Any]:
        """Who deliv takes the caller for; docs/api.md names the fields."""
        answer = self._transport.call("GET", "/whoami", patience=self._patience)
        _text(answer, "user_dn")
        return answer.document

    def transfers(self, **filters: str | None) -> Iterator[dict[str, Any]]:
        """The caller's jobs, the last submitted first; an operator's are everybody's.

        `filters` are those of /transfers: status, submitter (a DN), label, product_id, since,
        until, and the `limit` of a page. Pages are fetched as they are needed.
        """
        return self._pages("/transfers", "transfers", filters)

    def files(self, job_id: str, state: str | None = None) -> Iterator[dict[str, Any]]:
        """What became of each file of a product of several; docs/api.md names the fields.

        `state`: only those WAITING, ASSIGNED (being copied), FINISHED or FAILED. None of a product
        that has not been staged yet; one that is a single file may have none, `status` has it all.
        Pages are fetched as they are needed.
        """
        asked = {"job_id": job_id, "state": state, "limit": str(LARGEST_PAGE)}
        return self._pages("/transferFiles", "files", asked)

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """What happened to a job, oldest first; docs/api.md names the fields."""
        path = f"/transferEvents?job_id={quote(job_id, safe='', errors='replace')}"
        return _list(self._transport.call("GET", path, patience=self._patience).document, "events")

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _post(
        self, path: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        form = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self._transport.call(
            "POST", path, body=_encoded(fields), headers=form, patience=self._patience
        )

    def _retry(self, fields: Mapping[str, Any], deadline: datetime | None) -> dict[str, Any]:
        given = {**fields} | ({} if deadline is None else {"deadline": deadline.isoformat()})
        body, headers = json.dumps(given).encode("ascii"), {"Content-Type": "application/json"}
        return self._transport.call(
            "POST", "/retryTransfer", body=body, headers=headers, patience=self._patience
        ).document

    def _pages(
        self, path: str, name: str, filters: Mapping[str, str | None]
    ) -> Iterator[dict[str, Any]]:
        given = {name: value for name, value in filters.items() if value is not None}
        while True:
            asked = f"{path}?{_encoded(given).decode()}"
            page = self._transport.call("GET", asked, patience=self._patience).document
            yield from _list(page, name)
            if not isinstance(page.get("next"), str):
                return
            given["cursor"] = page["next"]

    def _status(self, job_id: str, patience: float) -> HttpAnswer:
        path = f"/transferStatus?job_id={quote(job_id, safe='', errors='replace')}"
        answer = self._transport.call("GET", path, patience=patience)
        _text(answer, "status")
        return answer


def _encoded(fields: Mapping[str, str]) -> bytes:
    try:
        return urlencode(fields).encode("ascii")
    except UnicodeEncodeError as error:
        raise Rejected("what is asked for must be valid UTF-8", status=400) from error


def _text(answer: HttpAnswer, name: str) -> str:
    value = answer.document.get(name)
    if not isinstance(value, str):
        raise BadAnswer(f"the answer has no {name}: is this deliv?")
    return value


def _list(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = document.get(name)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadAnswer(f"the answer has no {name}: is this deliv?")
    return value

"""Jobs as callers see them: submit, look, list, cancel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from deliv_testbed.fts import clock, submission
from deliv_testbed.fts.bans import Bans
from deliv_testbed.fts.caller import Caller
from deliv_testbed.fts.database import TERMINAL, UNFINISHED_FILES, Duplicate, FtsDatabase, Row
from deliv_testbed.fts.delegation import Delegation
from deliv_testbed.fts.errors import BadRequest, Conflict, Forbidden, NotFound, RestError
from deliv_testbed.fts.settings import FtsSettings

CANCELED = "Job canceled by the user"
EXPIRED = (
    "Job has been canceled because it stayed in the queue for too long (max-time-in-queue timeout)"
)
LIST_LIMIT = 500
FILES_LIMIT = 1000
OK = "200 Ok"


class Jobs:
    def __init__(
        self,
        settings: FtsSettings,
        database: FtsDatabase,
        delegation: Delegation,
        bans: Bans,
    ) -> None:
        self._settings = settings
        self._database = database
        self._delegation = delegation
        self._bans = bans

    def submit(self, caller: Caller, body: Any) -> dict[str, str]:
        self._delegation.require(caller)
        job, files = submission.build(body, caller, self._settings)
        self._bans.check_storages(files)
        try:
            self._database.insert(job, files)
        except Duplicate as error:
            if error.column == "job_id":
                raise Conflict("The sid provided by the user is duplicated") from error
            raise Conflict(
                "The submission is duplicated (IntegrityError) "
                "Duplicate entry for key 'dest_surl_uuid'"
            ) from error
        return {"job_id": job["job_id"]}

    def get(self, caller: Caller, job_id: str) -> Row:
        """The job without its files; 404, or 403 for another VO's."""
        return _permitted(caller, job_id, self._database.job(job_id))

    def statuses(self, caller: Caller, job_ids: Sequence[str]) -> list[Row]:
        """One element for each id, in that order; what went wrong is in the element."""
        return [self._status(caller, job_id) for job_id in job_ids]

    def with_files(self, elements: Iterable[Row], file_fields: Sequence[str]) -> Iterator[Row]:
        """The same elements, those of jobs with the chosen fields of their files."""
        known = [name for name in file_fields if name in self._database.file_columns]
        for element in elements:
            if file_fields and element["http_status"] == OK:
                files = self._database.each_file(element["job_id"], [*known, "file_id"])
                element["files"] = [_only(file, known) for file in files]
            yield element

    def files(self, caller: Caller, job_id: str) -> Iterator[Row]:
        self.get(caller, job_id)
        return map(shown, self._database.each_file(job_id))

    def field(self, caller: Caller, job_id: str, name: str) -> Any:
        return _field(shown(self.get(caller, job_id)), name)

    def retries(self, caller: Caller, job_id: str, file_id: int) -> list[Row]:
        self.get(caller, job_id)
        file = self._database.file(file_id)
        if file is None:
            raise NotFound(f'No file with the id "{file_id}" has been found')
        return [{**retry, "file": shown(file)} for retry in self._database.retries(file_id)]

    def archived(self, caller: Caller, job_id: str) -> Row:
        """A job that has been finished for long, with its files."""
        job = self._database.job(job_id, archived=True)
        if job is None:
            raise NotFound(f'No job with the id "{job_id}" has been found in the archive')
        files = [shown(file) for file in self._database.files(job_id)]
        return {**shown(_permitted(caller, job_id, job)), "files": files}

    def archived_field(self, caller: Caller, job_id: str, name: str) -> Any:
        return _field(self.archived(caller, job_id), name)

    def listing(self, caller: Caller, filters: Mapping[str, str]) -> Iterable[Row]:
        """The unfinished jobs of the caller's VO, or those that the filters ask for.

        Without `limit`, `time_window` (H or H:M) counts back from now over the time a job ended,
        and without either only unfinished jobs are listed, as FTS has it. Only with `limit` they
        are read before the answer begins.
        """
        _check_filters(caller, filters)
        limit, window = _number(filters.get("limit")), _window(filters.get("time_window"))
        states = _states(filters)
        finished = bool(states) and (limit is not None or window is not None)
        columns = self._chosen(filters.get("fields"))
        names = {"user_dn": "user_dn", "dlg_id": "cred_id"}
        names |= {"source_se": "source_se", "dest_se": "dest_se"}
        asked = {column: filters[name] for name, column in names.items() if filters.get(name)}
        read = partial(
            self._database.jobs,
            columns=columns,
            equal={**asked, "vo_name": caller.vo},  # another VO's jobs are hidden
            states=states,
            finished_since=clock.text(time.time() - window)
            if finished and window is not None and limit is None
            else None,
            unfinished=not finished,
            limit=limit,
        )
        rows = read() if limit else _later(read)
        return (_only(row, columns) for row in rows)

    def unfinished_files(self, caller: Caller, filters: Mapping[str, str]) -> list[Row]:
        """The oldest unfinished files of the caller's VO, with what the filters ask for."""
        names = ("source_se", "dest_se", "dest_surl")
        files = self._database.unfinished_files(
            equal={name: filters[name] for name in names if name in filters}
            | {"vo_name": caller.vo},
            states=_states(filters),
            limit=FILES_LIMIT,
        )
        return [shown(file) for file in files]

    def cancel(self, caller: Caller, job_ids: Sequence[str]) -> list[Row]:
        """One element for each id; a job that was at its end already comes first, as at FTS."""
        refused, canceled = [], []
        for job_id in job_ids:
            try:
                job = self.get(caller, job_id)
            except RestError as error:
                refused.append(_refusal(job_id, error))
                continue
            if job["job_state"] in TERMINAL:
                head = {
                    "http_status": "304 Not Modified",
                    "http_message": "The job is in a terminal state",
                }
                refused.append(head | shown(job))
            else:
                self._cancel(job_id, CANCELED)
                canceled.append(job_id)
        done = [{**self._status(caller, job_id), "http_message": None} for job_id in canceled]
        return refused + done

    def cancel_files(self, caller: Caller, job_id: str, file_ids: Sequence[int]) -> list[str]:
        """The state of each of the files afterwards; a copy under way is not stopped.

        When nothing of the job is left to do it becomes CANCELED, finished files or not: what
        FTS does: a finished file should not be canceled.
        """
        job = self.get(caller, job_id)
        if job["job_type"] != "N":
            raise BadRequest(
                f"Multihop or reuse jobs must be cancelled at once ({job['job_type']})"
            )
        with self._database.transaction():
            states = [self._cancel_file(job_id, file_id) for file_id in file_ids]
            if self._database.file_states(job_id).isdisjoint(UNFINISHED_FILES):
                self._end(job_id)
        return states

    def set_priority(self, caller: Caller, job_ids: Sequence[str], priority: int) -> list[Row]:
        for job_id in job_ids:
            job = self._database.job(job_id)
            if job and job["vo_name"] == caller.vo and job["job_state"] not in TERMINAL:
                self._database.update_job(job_id, priority=priority)
                for file in self._database.files(job_id):
                    self._database.update_file(file["file_id"], priority=priority)
        return self.statuses(caller, job_ids)

    def activity(self, _: Caller) -> dict[str, dict[str, int]]:
        """How many copies each host has under way; whoever has a certificate may know."""
        hosts = self._database.active_by_host()
        return {host: {"active": number} for host, number in hosts.items()}

    def expire(self) -> None:
        """Cancel what waited in the queue for longer than its submitter wanted."""
        for job_id in self._database.expired(time.time()):
            if self._database.file_states(job_id) == {"SUBMITTED"}:
                self._cancel(job_id, EXPIRED)

    def _chosen(self, fields: str | None) -> list[str]:
        """The columns to list; unknown names are dropped silently."""
        known = self._database.job_columns
        return [name for name in fields.split(",") if name in known] if fields else known

    def _status(self, caller: Caller, job_id: str) -> Row:
        try:
            job = shown(self.get(caller, job_id))
        except RestError as error:
            return _refusal(job_id, error)
        return {**job, "http_status": OK}

    def _cancel(self, job_id: str, reason: str) -> None:
        with self._database.transaction():
            self._database.cancel_files(job_id, UNFINISHED_FILES, reason, clock.now())
            self._end(job_id, reason=reason)

    def _cancel_file(self, job_id: str, file_id: int) -> str:
        file = self._database.file(file_id)
        if file is None or file["job_id"] != job_id:
            return "File does not belong to the job"
        if file["file_state"] in UNFINISHED_FILES:
            self._database.update_file(
                file_id, file_state="CANCELED", finish_time=clock.now(), dest_surl_uuid=None
            )
            return "CANCELED"
        return str(file["file_state"])

    def _end(self, job_id: str, **columns: object) -> None:
        self._database.update_job(
            job_id, job_state="CANCELED", cancel_job=True, job_finished=clock.now(), **columns
        )


def shown(row: Row) -> Row:
    """A row without our own columns."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


def _only(row: Row, names: Iterable[str]) -> Row:
    """The named fields; unknown names are dropped silently."""
    visible = shown(row)
    return {name: visible[name] for name in names if name in visible}


def _permitted(caller: Caller, job_id: str, job: Row | None) -> Row:
    if job is None:
        raise NotFound(f'No job with the id "{job_id}" has been found')
    if job["vo_name"] != caller.vo:
        raise Forbidden(f'Not enough permissions to check the job "{job_id}"')
    return job


def _field(row: Row, name: str) -> Any:
    if name not in row:
        raise NotFound("No such field")
    return row[name]


def _later(read: Callable[[], list[Row]]) -> Iterator[Row]:
    """The rows, read when the first is asked for."""
    yield from read()


def _refusal(job_id: str, error: RestError) -> Row:
    return {"job_id": job_id, "http_status": error.status, "http_message": error.message}


def _states(filters: Mapping[str, str]) -> list[str]:
    return filters["state_in"].split(",") if filters.get("state_in") else []


def _check_filters(caller: Caller, filters: Mapping[str, str]) -> None:
    if filters.get("dlg_id") and filters["dlg_id"] != caller.delegation_id:
        raise Forbidden("The provided delegation id does not match your delegation id")
    if filters.get("user_dn") and filters["user_dn"] != caller.user_dn:
        raise BadRequest("The provided DN and delegation id do not correspond to the same user")
    limit = _number(filters.get("limit"))
    if limit is not None and not 0 <= limit <= LIST_LIMIT:
        raise BadRequest(f"The limit must be positive and less or equal than {LIST_LIMIT}")


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None


def _window(text: str | None) -> float | None:
    """H or H:M in seconds; what can't be read is no window."""
    if not text:
        return None
    try:
        hours, _, minutes = text.partition(":")
        return int(hours) * 3600.0 + int(minutes or 0) * 60.0
    except ValueError:
        return None

"""Moves files from SUBMITTED to their end, as many at once between the same two hosts as
the optimizer lets.

A copy whose process is gone, by itself or with the server, is not started again: it stays ACTIVE
until there has been no event of it for `stalled_after`, and is FAILED then. After a restart of the
server that time begins again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any

from deliv_testbed.fts import clock, reasons, transferlog
from deliv_testbed.fts.database import RUNNING, FtsDatabase, Row
from deliv_testbed.fts.jobs import Jobs
from deliv_testbed.fts.optimizer import Optimizer
from deliv_testbed.fts.settings import FtsSettings
from deliv_testbed.fts.workers import Worker, WorkerDied, Workers

log = logging.getLogger("deliv_testbed.fts")

MIB = 2**20
GRACE = 60.0
PREPARATION = 300.0
STALLED = (
    "No FTS server has updated the transfer status the last {seconds:g} seconds. Probably stalled"
)
FAILED = "One or more files failed. Please have a look at the details for more information"


class Scheduler:
    def __init__(self, settings: FtsSettings, database: FtsDatabase, workers: Workers) -> None:
        self._settings = settings
        self._database = database
        self._workers = workers
        self._optimizer = Optimizer(settings)
        self._host = socket.gethostname()
        self._copies: dict[int, asyncio.Task[None]] = {}
        self._at_work: dict[int, Worker] = {}
        self._silent_since: dict[int, float] = {}

    def stop_canceled(self) -> None:
        """End the processes whose job was canceled; what they have written stays.

        As at FTS it takes a round, and a file that was canceled by itself is not among them.
        """
        for file_id in self._database.unended():
            if worker := self._at_work.get(file_id):
                worker.kill()
            elif file_id not in self._copies:
                self._database.update_file(file_id, finish_time=clock.now())

    def recover(self) -> None:
        """What has no process: queue it when it never had one, else wait until it has stalled."""
        lost = [
            (file["file_id"], file["pid"])
            for file in self._database.files_in(RUNNING)
            if file["file_id"] not in self._copies
        ]
        for file_id in (file_id for file_id, pid in lost if not pid):
            self._database.update_file(
                file_id, file_state="SUBMITTED", start_time=None, transfer_host=None
            )
        now, limit = time.monotonic(), self._settings.stalled_after
        silent = (file_id for file_id, pid in lost if pid)
        self._silent_since = {file: self._silent_since.get(file, now) for file in silent}
        for file_id, since in self._silent_since.items():
            if now - since >= limit:
                reason = STALLED.format(seconds=limit)
                self._end(file_id, file_state="FAILED", reason=reason, recoverable=False)

    def end_jobs(self) -> None:
        """End the jobs whose files have ended: a while after the last of them, as FTS does."""
        for job_id in self._database.jobs_to_end():
            state = job_state(self._database.file_states(job_id))
            self._database.update_job(
                job_id,
                job_state=state,
                job_finished=clock.now(),
                reason="" if state == "FINISHED" else FAILED,
            )

    async def run(self, jobs: Jobs) -> None:
        """Until it is canceled."""
        try:
            while True:
                try:
                    self.recover()
                    self.stop_canceled()
                    self.end_jobs()
                    jobs.expire()
                    self._database.archive(clock.text(time.time() - self._settings.archive_after))
                    self.start_copies()
                    await self._workers.end_idle()
                except sqlite3.Error:
                    log.exception("the database can't be used")
                await asyncio.sleep(self._settings.interval)
        finally:
            for task in list(self._copies.values()):
                task.cancel()
            await asyncio.gather(*self._copies.values(), return_exceptions=True)
            await self._workers.close()

    def start_copies(self) -> None:
        """Give each free slot a file, and the processes that are left to the first of them."""
        waiting = list[Row]()
        links = self._database.links()
        self._optimizer.run(links)
        for link in links:
            free = max(self._optimizer.limit(link) - link["active"], 0)
            waiting += self._database.eligible(link, time.time(), free)
        waiting.sort(key=lambda file: (-file["priority"], file["file_id"]))
        for file in waiting:
            job = self._database.job(file["job_id"])
            if len(set(self._copies.values())) >= self._settings.processes:
                return
            if job is not None and file["file_id"] not in self._copies:
                reuse = job["job_type"] == "Y"
                files = self._database.waiting_files(job["job_id"]) if reuse else [file]
                self._start(job, files)

    def _start(self, job: Row, files: list[Row]) -> None:
        ids = [file["file_id"] for file in files]
        with self._database.transaction():
            for file in files:
                log_file = transferlog.path(self._settings.state / "logs", file)
                self._database.update_file(
                    file["file_id"],
                    file_state="READY", start_time=clock.now(), throughput=0.0, filesize=0,
                    tx_duration=0.0, reason="", recoverable=False, transfer_host=self._host,
                    internal_file_params=_parameters(0), log_file=str(log_file), log_debug=0,
                    pid=0,
                )  # fmt: skip
            self._database.update_job(job["job_id"], job_state="ACTIVE")
        task = asyncio.create_task(self._copy(job, files))
        self._copies |= dict.fromkeys(ids, task)
        task.add_done_callback(partial(self._forget, ids))

    async def _copy(self, job: Row, files: list[Row]) -> None:
        """One after the other, in one process."""
        ids = [file["file_id"] for file in files]
        credential = self._database.credential(job["cred_id"]) or {"proxy": None}
        proxy = self._workers.proxy_file(job["cred_id"], credential["proxy"])
        if proxy is None:
            for file_id in ids:
                self._fail(file_id, "GENERAL_FAILURE", errno.EACCES, "No credential found")
            return
        worker = await self._workers.acquire(proxy)
        for file_id in ids:
            self._unless_canceled(file_id, pid=worker.pid)
        self._at_work |= dict.fromkeys(ids, worker)
        try:
            for file in files:
                await self._follow(worker, job, file)
        except WorkerDied as error:
            log.info("the process that copies files of job %s %s", job["job_id"], error)
        finally:
            for file_id in ids:
                del self._at_work[file_id]
            self._workers.release(worker)

    async def _follow(self, worker: Worker, job: Row, file: Row) -> None:
        """Write down the process's events; WorkerDied also where it takes too long."""
        file_id = file["file_id"]
        if not self._unless_canceled(file_id):
            return
        try:
            async with asyncio.timeout(PREPARATION) as patience:
                async for event in worker.work(_order(job, file)):
                    if event["event"] == "active":
                        now = asyncio.get_running_loop().time()
                        patience.reschedule(now + event["timeout"] + GRACE)
                    self._note(file_id, event)
        except TimeoutError as error:
            self._fail(file_id, "TRANSFER", errno.ETIMEDOUT, "Timeout expired")
            raise WorkerDied("takes too long") from error

    def _note(self, file_id: int, event: dict[str, Any]) -> None:
        file = self._database.file(file_id)
        if file is None:
            return
        transferlog.write(Path(file["log_file"]), event)
        match event["event"]:
            case "size":
                self._unless_canceled(file_id, filesize=event["filesize"])
            case "active":
                self._unless_canceled(
                    file_id, file_state="ACTIVE",
                    internal_file_params=_parameters(event["timeout"]),
                )  # fmt: skip
            case "progress":
                self._unless_canceled(file_id, throughput=round(event["throughput"], 3))
            case "done":
                duration = event["tx_duration"]
                self._end(
                    file_id,
                    file_state="FINISHED", tx_duration=round(duration, 3), recoverable=False,
                    throughput=round(file["filesize"] / MIB / max(duration, 0.001), 6),
                )  # fmt: skip
            case "failed":
                self._fail(file_id, event["scope"], event["code"], event["message"])

    def _fail(self, file_id: int, scope: str, code: int, message: str) -> None:
        file = self._database.file(file_id)
        job = self._database.job(file["job_id"]) if file else None
        if file is None or job is None or file["file_state"] not in RUNNING:
            return
        text = reasons.reason(scope, code, message)
        again = reasons.recoverable(scope, code, message)
        # How many retries: -1 is none, 0 the server's default.
        if again and file["retry"] < int(job["retry"] or self._settings.retries):
            return self._retry(job, file, text)
        self._end(file_id, file_state="FAILED", reason=text, recoverable=again)

    def _retry(self, job: Row, file: Row, text: str) -> None:
        """Back to SUBMITTED for a while; the job stays ACTIVE."""
        attempt = file["retry"] + 1
        with self._database.transaction():
            self._database.add_retry(
                {
                    "file_id": file["file_id"], "attempt": attempt, "reason": text,
                    "log_file": file["log_file"], "datetime": clock.now(),
                    "transfer_host": file["transfer_host"],
                }
            )  # fmt: skip
            self._database.update_file(
                file["file_id"],
                file_state="SUBMITTED", retry=attempt, start_time=None, transfer_host=None,
                recoverable=True, reason="",
                _not_before=time.time() + (job["retry_delay"] or self._settings.retry_delay),
            )  # fmt: skip

    def _end(self, file_id: int, **columns: object) -> None:
        ended = {"finish_time": clock.now(), "dest_surl_uuid": None}
        if not self._unless_canceled(file_id, **ended, **columns):
            self._database.update_file(file_id, finish_time=clock.now())

    def _unless_canceled(self, file_id: int, **columns: object) -> bool:
        """Write to a file that is still running."""
        file = self._database.file(file_id)
        if file is None or file["file_state"] not in RUNNING:
            return False
        if columns:
            self._database.update_file(file_id, **columns)
        return True

    def _forget(self, file_ids: list[int], task: asyncio.Task[None]) -> None:
        for file_id in file_ids:
            del self._copies[file_id]
        if not task.cancelled() and (error := task.exception()):
            log.error("copy of files %s", file_ids, exc_info=error)


def job_state(states: set[str]) -> str:
    """The state of a job whose files have all ended, by their states."""
    if {"FINISHED", "FAILED"} <= states:
        return "FINISHEDDIRTY"
    return next(state for state in ("FAILED", "CANCELED", "FINISHED") if state in states)


def _parameters(timeout: int) -> str:
    return f"nostreams:0,timeout:{timeout},buffersize:0"


def _order(job: Row, file: Row) -> dict[str, object]:
    algorithm, _, checksum = file["checksum"].partition(":")
    given = dict(
        part.split(":") for part in (job["internal_job_params"] or "").split(",") if ":" in part
    )
    may_replace = job["overwrite_flag"] == "Y" or (
        job["overwrite_flag"] == "R" and file["retry"] > 0
    )
    return {
        "source": file["source_surl"],
        "destination": file["dest_surl"],
        "overwrite": may_replace,
        "mode": job["verify_checksum"],
        "algorithm": algorithm,
        "checksum": checksum,
        "timeout": int(given.get("timeout", 0)),
        "strict": "strict" in (job["internal_job_params"] or "").split(","),
    }

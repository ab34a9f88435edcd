"""Staging as a service: takes requests, copies, reports, releases.

Each request that is not reported yet has a task; a restart starts those tasks again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import random
import shutil
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from deliv.errors import Conflict, DelivError
from deliv_testbed.stager.archive import Archive
from deliv_testbed.stager.callbacks import Callbacks, Unanswered
from deliv_testbed.stager.copying import FinishedCopy, copy
from deliv_testbed.stager.faults import faults_of
from deliv_testbed.stager.register import Register, Staging, StagingRequest, State

log = logging.getLogger("deliv_testbed.stager")

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 15.0
HELD_FOR = 0.5  # seconds, until it is looked again
EARLY = 2.0  # seconds an answer is held back for a callback to come first


class CannotStage(Exception):
    """The reason goes to deliv as the callback's msg."""


class CannotRelease(DelivError):
    """The copy stays: 500."""


class AreaFull(DelivError):
    """There is no space for the copy: 507."""

    status = HTTPStatus.INSUFFICIENT_STORAGE


@dataclass(kw_only=True)
class Work:
    """One job's task; `poke` ends its pause between two callbacks, `stop` its copy."""

    poke: asyncio.Event = field(default_factory=asyncio.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    task: asyncio.Task[None] | None = None
    copying: concurrent.futures.Future[FinishedCopy] | None = None

    @property
    def is_running(self) -> bool:
        return self.task is not None and not self.task.done()

    async def pause(self, seconds: float) -> float:
        """Wait with jitter, or until poked; returns how long to wait the next time."""
        jittered = seconds * random.uniform(0.5, 1.0)  # noqa: S311
        try:
            await asyncio.wait_for(self.poke.wait(), jittered)
        except TimeoutError:
            return min(LONGEST_PAUSE, seconds * 2)
        self.poke.clear()
        return FIRST_PAUSE

    async def halt(self) -> None:
        """Returns when both the task and its copy have ended."""
        self.stop.set()
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self.copying:
            await asyncio.to_thread(concurrent.futures.wait, [self.copying])


class StagingService:
    def __init__(
        self,
        register: Register,
        archive: Archive,
        callbacks: Callbacks,
        area: Path,
        copies: int,
        keep: Path,
        hold: Path,
        capacity: int | None = None,
    ) -> None:
        self._register = register
        self._archive = archive
        self._callbacks = callbacks
        self._area = area
        self._keep, self._hold = keep, hold
        self._capacity = capacity
        self._pool = concurrent.futures.ThreadPoolExecutor(copies, "copy")
        self._works: dict[str, Work] = {}
        self._changing = asyncio.Lock()

    def resume(self) -> None:
        """Go on with everything that an earlier run left unfinished."""
        for job_id in self._register.unreported():
            self._start(job_id)

    async def accept(self, request: StagingRequest) -> None:
        """Take a request, new or repeated; Conflict when the job came with another product.

        AreaFull.
        """
        async with self._changing:
            known = self._register.get(request.job_id)
            if known and known.product_id != request.product_id:
                raise Conflict(f"job {request.job_id} was requested with another product")
            if known is None:
                self._take_space(request)
            self._register.put(request)
            task = self._start(request.job_id)
        if faults_of(request.product_id).early:
            await asyncio.wait({task}, timeout=EARLY)

    async def release(self, job_id: str) -> bool:
        """Stop the job's work and remove its copy; False when there is none. CannotRelease."""
        staging = self._register.get(job_id)
        if staging and faults_of(staging.product_id).kept and self._keep.exists():
            raise CannotRelease(f"{job_id} is kept (a failure ordered by the product id)")
        async with self._changing:
            if work := self._works.pop(job_id, None):
                await work.halt()
            if not self._register.get(job_id):
                return False
            await asyncio.to_thread(shutil.rmtree, self._area / job_id, ignore_errors=True)
            self._register.remove(job_id)
            return True

    def _take_space(self, request: StagingRequest) -> None:
        if self._capacity is None:
            return
        products = [request.product_id, *(one.product_id for one in self._register.all())]
        used = sum(self._archive.size(faults_of(one).product_id) for one in products)
        if used > self._capacity:
            text = f"job {request.job_id}: refused, {used} of {self._capacity} bytes"
            log.warning(text)
            raise AreaFull(text)
        log.info("job %s: takes space, %d of %d bytes", request.job_id, used, self._capacity)

    def staging(self, job_id: str) -> Staging | None:
        return self._register.get(job_id)

    def stagings(self) -> list[Staging]:
        return self._register.all()

    async def close(self) -> None:
        """Stop; unfinished work stays in the register."""
        await asyncio.gather(*(work.halt() for work in self._works.values()))
        self._pool.shutdown()
        self._callbacks.close()
        self._register.close()

    def _start(self, job_id: str) -> asyncio.Task[None]:
        work = self._works.get(job_id)
        if work and work.task and work.is_running:
            work.poke.set()
            return work.task
        work = self._works[job_id] = Work()
        work.task = task = asyncio.create_task(self._serve(job_id, work), name=job_id)
        task.add_done_callback(lambda task: self._ended(job_id, task))
        return task

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        work = self._works.get(job_id)
        if work and work.task is task:
            del self._works[job_id]
        if not task.cancelled() and (error := task.exception()):
            log.error("job %s: stopped by an error", job_id, exc_info=error)

    async def _serve(self, job_id: str, work: Work) -> None:
        pause = FIRST_PAUSE
        while (staging := self._register.get(job_id)) and not staging.told:
            is_staged = staging.state is State.STAGED and (self._area / job_id).is_dir()
            if not is_staged and staging.state is not State.FAILED:
                try:
                    await self._copy(staging, work)
                except (CannotStage, OSError) as error:
                    log.warning("job %s: %s", job_id, error)
                    self._register.failed(job_id, str(error))
                continue
            if faults_of(staging.product_id).silent:
                return
            try:
                answers = await self._callbacks.report(staging)
            except Unanswered as error:
                log.warning("job %s: callback to %s: %s", job_id, staging.callback, error)
                pause = await work.pause(pause)
            else:
                log.info("job %s: callback answered %s", job_id, answers)
                self._register.reported(staging, answers)

    async def _copy(self, staging: Staging, work: Work) -> None:
        faults = faults_of(staging.product_id)
        await asyncio.sleep(max(0.0, staging.since + faults.delay - time.time()))
        while faults.held and self._hold.exists():
            await asyncio.sleep(HELD_FOR)
        product = self._archive.find(faults.product_id)
        if product is None:
            raise CannotStage("no such product")
        if faults.fail:
            raise CannotStage("the tape can't be read (a failure ordered by the product id)")
        place = self._area / staging.job_id
        work.copying = self._pool.submit(copy, product, place, work.stop, faults)
        done = await asyncio.wrap_future(work.copying)
        self._register.staged(
            staging.job_id, name=product.name, size=done.size, checksum=done.checksum
        )
        log.info("job %s: staged %d bytes", staging.job_id, done.size)

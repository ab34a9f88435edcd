"""Failpoints, and what happens at one that is armed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import structlog

from deliv.errors import Unreachable

log = structlog.get_logger()

HELD_FOR = 0.1  # seconds, until it is looked again
FAMILIES = {socket.AF_INET, socket.AF_INET6}


class Point(StrEnum):
    """Each named after the effect that has just taken place, or the one that is about to."""

    SUBMISSION_TAKEN = "submission-taken"  # parsed and allowed, one or a batch; its rows come next
    SUBMISSION_SENT = "submission-sent"  # to MariaDB; COMMIT comes next
    SUBMISSION_STORED = "submission-stored"  # the answer comes next
    OUTBOX_TAKEN = "outbox-taken"
    MESSAGE_PUBLISHED = "message-published"  # and confirmed; its outbox row is still there
    OUTBOX_CLEARED = "outbox-cleared"
    TRANSITION_SENT = "transition-sent"  # any job's, to MariaDB; COMMIT comes next
    TRANSITION_STORED = "transition-stored"  # not known in the process yet
    MESSAGE_RECEIVED = "message-received"
    MESSAGE_HANDLED = "message-handled"  # the acknowledgement comes next
    LEASE_TAKEN = "lease-taken"
    JOB_ADMITTED = "job-admitted"
    STEP_TAKEN = "step-taken"  # the job is claimed for one step
    STAGING_ENTERED = "staging-entered"  # by a job; where it has opened it, it is attended to next
    CODE_STORED = "code-stored"  # the stager is asked next
    STAGER_ASKED = "stager-asked"
    STAGER_ACCEPTED = "stager-accepted"  # and that is recorded
    REPORT_TAKEN = "report-taken"  # the stager's, found good; recorded next
    FILES_STORED = "files-stored"  # some of a report's, which does not count yet
    REPORT_STORED = "report-stored"  # with the staging; its jobs are due, and take it over next
    FILES_TAKEN = "files-taken"  # some of them, by a job
    COPY_TAKEN = "copy-taken"  # by a job, which is staged now
    QUEUE_JOINED = "queue-joined"  # staged, it waits for a place at FTS
    PLACE_GIVEN = "place-given"  # and has one; it is handed over next
    STAGING_TIMED_OUT = "staging-timed-out"
    DELEGATED = "delegated"
    TRANSFER_ASSIGNED = "transfer-assigned"  # its id at FTS is recorded; posted next
    TRANSFER_POSTED = "transfer-posted"
    POST_STORED = "post-stored"
    OUTCOME_SEEN = "outcome-seen"  # at FTS; recorded next
    DESTINATION_READ = "destination-read"  # a file that an attempt may have left; settled next
    FILES_RECORDED = "files-recorded"  # those of one transfer; what follows from them comes next
    OUTCOME_STORED = "outcome-stored"
    FAILURE_SEEN = "failure-seen"
    RETRY_STORED = "retry-stored"
    REST_STORED = "rest-stored"  # of a job whose place failed it
    REQUEUE_STORED = "requeue-stored"  # of a job whose destination rests
    FAILURE_STORED = "failure-stored"
    CANCEL_STORED = "cancel-stored"  # the request; FTS is asked next
    CANCEL_SENT = "cancel-sent"  # to FTS
    CANCELLATION_STORED = "cancellation-stored"  # the job is CANCELLED
    CLOSING = "closing"  # what a final job still holds elsewhere is given back next
    TRANSFER_WITHDRAWN = "transfer-withdrawn"
    STAGING_CLOSED = "staging-closed"  # no job needs it; the stager is asked to release it next
    COPY_RELEASED = "copy-released"  # at the stager; recorded next
    RELEASE_STORED = "release-stored"


# Calls to the stager and to FTS, whose answers a cut loses.
CALLS = {
    Point.STAGER_ASKED,
    Point.DELEGATED,
    Point.TRANSFER_POSTED,
    Point.CANCEL_SENT,
    Point.TRANSFER_WITHDRAWN,
    Point.COPY_RELEASED,
}


class Failpoints:
    """The points that are armed by files in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def reach(self, point: Point) -> None:
        """A failpoint in a coroutine."""
        for pause in self._fail(point):
            await asyncio.sleep(pause)

    def reach_in_thread(self, point: Point) -> None:
        """A failpoint in code that may block."""
        for pause in self._fail(point):
            time.sleep(pause)

    def _fail(self, point: Point) -> Iterator[float]:
        """Do what the point is armed with; the pauses to make, in seconds."""
        file = self._directory / point
        spent = file.with_name(f"{point}.{os.getpid()}.spent")
        try:
            # Read first: who removes the spent file ends a hold.
            fault = file.read_text(encoding="ascii")
            file.rename(spent)  # exactly one of those who come here at once succeeds
        except FileNotFoundError:
            return
        kind, _, argument = fault.strip().partition(" ")
        log.warning("failpoint reached", point=point, kind=kind)
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "drop":
            _cut()
            if point in CALLS:
                raise Unreachable(f"cut off at the failpoint {point}")
        if kind == "hang":
            yield float(argument)
        while kind == "hold" and spent.exists():
            yield HELD_FOR


def _cut() -> None:
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if not str(link.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(link.name))) as connection:
                if connection.family in FAMILIES:
                    connection.getpeername()  # OSError for a socket that only listens
                    connection.shutdown(socket.SHUT_RDWR)

"""Fault points: named places between two effects where a test kills, cuts off or hangs deliv.

They do nothing unless the configuration names a directory under `faults`, as no service in use
does. A file in it that is named like a point arms that point, once, for whichever instance comes
there first; it holds one of

kill           the process ends at once, as by SIGKILL
drop           every network connection of the process is cut; after a call to the stager or to
               FTS, its answer is lost
hang SECONDS   whoever came there waits, then goes on
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from enum import StrEnum
from pathlib import Path

import structlog

from deliv.errors import Unreachable

log = structlog.get_logger()

FAMILIES = {socket.AF_INET, socket.AF_INET6}


class Point(StrEnum):
    """Each named after the effect that has just taken place, or the one that is about to."""

    SUBMISSION_TAKEN = "submission-taken"  # parsed and allowed; its row comes next
    SUBMISSION_SENT = "submission-sent"  # to MariaDB; COMMIT comes next
    SUBMISSION_STORED = "submission-stored"  # the answer comes next
    OUTBOX_TAKEN = "outbox-taken"
    MESSAGE_PUBLISHED = "message-published"  # and confirmed; its outbox row is still there
    OUTBOX_CLEARED = "outbox-cleared"
    TRANSITION_SENT = "transition-sent"  # any job's, to MariaDB; COMMIT comes next
    TRANSITION_STORED = "transition-stored"  # nobody in the process knows yet
    MESSAGE_RECEIVED = "message-received"
    MESSAGE_HANDLED = "message-handled"  # the acknowledgement comes next
    LEASE_TAKEN = "lease-taken"
    JOB_ADMITTED = "job-admitted"
    STEP_TAKEN = "step-taken"  # the job is in hand for one step
    CODE_STORED = "code-stored"  # the stager is asked next
    STAGER_ASKED = "stager-asked"
    STAGER_ACCEPTED = "stager-accepted"  # and that is recorded
    REPORT_TAKEN = "report-taken"  # the stager's, found good; recorded next
    REPORT_STORED = "report-stored"  # the answer comes next
    STAGING_TIMED_OUT = "staging-timed-out"
    DELEGATED = "delegated"
    TRANSFER_ASSIGNED = "transfer-assigned"  # its id at FTS is recorded; posted next
    TRANSFER_POSTED = "transfer-posted"
    POST_STORED = "post-stored"
    OUTCOME_SEEN = "outcome-seen"  # at FTS; recorded next
    OUTCOME_STORED = "outcome-stored"
    FAILURE_SEEN = "failure-seen"
    RETRY_STORED = "retry-stored"
    FAILURE_STORED = "failure-stored"
    CANCEL_STORED = "cancel-stored"  # the wish; FTS is told next
    CANCEL_SENT = "cancel-sent"  # to FTS
    CANCELLATION_STORED = "cancellation-stored"  # the job is CANCELLED
    CLOSING = "closing"  # what a final job still holds elsewhere is given back next
    TRANSFER_WITHDRAWN = "transfer-withdrawn"
    COPY_RELEASED = "copy-released"  # at the stager; recorded next
    RELEASE_STORED = "release-stored"


CALLS = {
    Point.STAGER_ASKED,
    Point.DELEGATED,
    Point.TRANSFER_POSTED,
    Point.CANCEL_SENT,
    Point.TRANSFER_WITHDRAWN,
    Point.COPY_RELEASED,
}

_directory: Path | None = None


def install(directory: Path | None) -> None:
    """Look for armed points in `directory`; None: there are none, ever."""
    global _directory
    _directory = directory


async def reach(point: Point) -> None:
    """A fault point in a coroutine."""
    if _directory is not None:
        await asyncio.sleep(_strike(point, _directory))


def reach_in_thread(point: Point) -> None:
    """A fault point in code that may block."""
    if _directory is not None:
        time.sleep(_strike(point, _directory))


def _strike(point: Point, directory: Path) -> float:
    """Do what the point is armed with; how long to wait then, in seconds."""
    kind, _, argument = _disarm(directory / point).partition(" ")
    if not kind:
        return 0
    log.warning("fault point reached", point=point, kind=kind)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "drop":
        _cut()
        if point in CALLS:
            raise Unreachable(f"cut off at the fault point {point}")
    return float(argument or 0)


def _disarm(file: Path) -> str:
    """What the point was armed with; exactly one of those who come here at once gets it."""
    spent = file.with_name(f"{file.name}.{os.getpid()}.spent")
    try:
        file.rename(spent)
    except FileNotFoundError:
        return ""
    return spent.read_text(encoding="ascii").strip()


def _cut() -> None:
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith("socket:"):
                _shut_down(os.dup(int(link.name)))


def _shut_down(descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as connection:
        if connection.family in FAMILIES:
            connection.getpeername()  # OSError for a socket that only listens
            connection.shutdown(socket.SHUT_RDWR)

"""What a job is doing, and what is to be done for it next. Pure: from its columns alone.

Whoever wants to know reads the phase. CASES is the one place that derives it, for jobs in memory
and for SQL (deliv/store/conditions.py); every combination of these columns fits exactly one case.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from deliv.model.job import Job
from deliv.model.states import FINAL, Status


class Phase(StrEnum):
    QUEUED = "queued"
    ASKING_STAGER = "asking the stager"
    WAITING_FOR_STAGER = "waiting for the stager"
    STAGED = "staged"  # to be assigned to an FTS, whether for the first time or again
    HANDING_OVER = "handing over"  # assigned: FTS may have the transfer already
    COPYING = "copying"
    STOPPING = "stopping"  # its owner has withdrawn it or its deadline is over; FTS may still copy
    CLEANING_UP = "cleaning up"  # ended; the stager and FTS may still hold something for it
    CLOSED = "closed"


class JobAction(StrEnum):
    """What a worker does for a job that is due. ADMIT is not done for a given job: see Engine."""

    ADMIT = "admit"
    REQUEST_STAGING = "ask the stager"
    CHECK_STAGING_DEADLINE = "check the staging deadline"
    START_TRANSFER = "assign it to an FTS"
    POST_TRANSFER = "post it to FTS"
    HAND_OVER_MORE = "assign more of its files"
    STOP_TRANSFER = "have FTS stop it"
    CLEAN_UP = "withdraw and release"
    REST = "nothing"


@dataclass(frozen=True, kw_only=True)
class Case:
    """`phase` is that of a job of these statuses whose columns `given` have values, `null` none."""

    phase: Phase
    statuses: frozenset[Status]
    given: tuple[str, ...] = ()
    null: tuple[str, ...] = ()


STAGING = frozenset({Status.STAGING})
TRANSFERRING = frozenset({Status.TRANSFERRING})
TO_STOP = ("cancel_requested", "deadline_passed")

CASES = (
    Case(phase=Phase.QUEUED, statuses=frozenset({Status.SUBMITTED})),
    Case(phase=Phase.ASKING_STAGER, statuses=STAGING, null=("stager_accepted", "time_staged")),
    Case(
        phase=Phase.WAITING_FOR_STAGER,
        statuses=STAGING,
        given=("stager_accepted",),
        null=("time_staged",),
    ),
    Case(phase=Phase.STAGED, statuses=STAGING, given=("time_staged",)),
    Case(phase=Phase.STAGED, statuses=TRANSFERRING, null=("fts_jobid", "fts_posted", *TO_STOP)),
    Case(
        phase=Phase.HANDING_OVER,
        statuses=TRANSFERRING,
        given=("fts_jobid",),
        null=("fts_posted", *TO_STOP),
    ),
    Case(phase=Phase.COPYING, statuses=TRANSFERRING, given=("fts_posted",), null=TO_STOP),
    Case(phase=Phase.STOPPING, statuses=TRANSFERRING, given=("cancel_requested",)),
    Case(
        phase=Phase.STOPPING,
        statuses=TRANSFERRING,
        given=("deadline_passed",),
        null=("cancel_requested",),
    ),
    Case(phase=Phase.CLEANING_UP, statuses=FINAL, given=("time_staging",), null=("time_released",)),
    Case(phase=Phase.CLOSED, statuses=FINAL, given=("time_staging", "time_released")),
    Case(phase=Phase.CLOSED, statuses=FINAL, null=("time_staging",)),  # the stager was never asked
)

ACTIONS = MappingProxyType(
    {
        Phase.QUEUED: JobAction.ADMIT,
        Phase.ASKING_STAGER: JobAction.REQUEST_STAGING,
        Phase.WAITING_FOR_STAGER: JobAction.CHECK_STAGING_DEADLINE,
        Phase.STAGED: JobAction.START_TRANSFER,
        Phase.HANDING_OVER: JobAction.POST_TRANSFER,
        Phase.COPYING: JobAction.HAND_OVER_MORE,  # FTS is polled for all its jobs at once
        Phase.STOPPING: JobAction.STOP_TRANSFER,
        Phase.CLEANING_UP: JobAction.CLEAN_UP,
        Phase.CLOSED: JobAction.REST,
    }
)

# Where a job goes from each phase; from one to itself by a new attempt. One with several files is
# STAGED again after each of its transfers, and goes from there to another attempt or to its end.
NEXT = MappingProxyType(
    {
        Phase.QUEUED: (Phase.ASKING_STAGER, Phase.CLOSED),
        Phase.ASKING_STAGER: (
            Phase.QUEUED,  # its destination rests
            Phase.ASKING_STAGER,
            Phase.WAITING_FOR_STAGER,
            Phase.STAGED,  # it reports before it answers
            Phase.CLEANING_UP,
        ),
        Phase.WAITING_FOR_STAGER: (Phase.ASKING_STAGER, Phase.STAGED, Phase.CLEANING_UP),
        Phase.STAGED: (
            Phase.ASKING_STAGER,
            Phase.STAGED,
            Phase.HANDING_OVER,
            Phase.CLEANING_UP,
        ),
        Phase.HANDING_OVER: (
            Phase.ASKING_STAGER,
            Phase.STAGED,
            Phase.COPYING,
            Phase.STOPPING,
            Phase.CLEANING_UP,
        ),
        Phase.COPYING: (
            Phase.ASKING_STAGER,
            Phase.STAGED,
            Phase.HANDING_OVER,  # more of its files
            Phase.STOPPING,
            Phase.CLEANING_UP,
        ),
        Phase.STOPPING: (Phase.CLEANING_UP,),
        Phase.CLEANING_UP: (Phase.CLOSED,),
        Phase.CLOSED: (Phase.CLEANING_UP,),  # when a call to the stager or to FTS went out late
    }
)

AT_STAGER = frozenset({Phase.ASKING_STAGER, Phase.WAITING_FOR_STAGER})  # its report is expected
AT_REST = frozenset({Phase.COPYING, Phase.CLOSED})
AT_FTS = frozenset({Phase.HANDING_OVER, Phase.COPYING, Phase.STOPPING})  # which may copy or have


def phase(job: Job) -> Phase:
    return next(case.phase for case in CASES if fits(case, job))


def fits(case: Case, job: Job) -> bool:
    return (
        job.status in case.statuses
        and all(getattr(job, name) is not None for name in case.given)
        and all(getattr(job, name) is None for name in case.null)
    )


def needs_attention(job: Job) -> bool:
    """Whether a worker must look at it again without hearing of it from the stager or FTS."""
    return phase(job) not in AT_REST


def has_place(job: Job) -> bool:
    """Whether an unfinished job is with an FTS, or being handed over to one.

    Others wait for a place, of which `limits` has so many: deliv/store/fts_queue.py.
    """
    return job.fts_endpoint is not None or job.turn_since is not None

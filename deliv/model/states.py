"""A job's states and the one table of what may follow what."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

from deliv.errors import IllegalTransition


class Status(StrEnum):
    SUBMITTED = "SUBMITTED"
    STAGING = "STAGING"
    TRANSFERRING = "TRANSFERRING"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"


class Event(StrEnum):
    """What can happen to a job."""

    ADMIT = "admit"  # its turn has come: the stager is asked
    STAGED = "staged"  # the stager reported a copy
    RESTAGE = "restage"  # staging starts over as a new attempt
    REQUEUE = "requeue"  # nothing is staged for it any more: it waits for its turn again
    TRANSFER = "transfer"  # handed to FTS
    RETRANSFER = "retransfer"  # handed to FTS again as a new attempt
    DELIVER = "deliver"  # FTS finished and the copy was verified
    FAIL = "fail"
    CANCEL = "cancel"


FINAL = frozenset({Status.SUCCESS, Status.ERROR, Status.CANCELLED})
UNFINISHED = frozenset(Status) - FINAL
IN_FLIGHT = UNFINISHED - {Status.SUBMITTED}
# The column with the time of each end.
END_TIMES = MappingProxyType(
    {
        Status.SUCCESS: "time_success",
        Status.ERROR: "time_error",
        Status.CANCELLED: "time_cancelled",
    }
)

TRANSITIONS = MappingProxyType(
    {
        (Status.SUBMITTED, Event.ADMIT): Status.STAGING,
        (Status.STAGING, Event.STAGED): Status.STAGING,
        (Status.STAGING, Event.RESTAGE): Status.STAGING,
        (Status.STAGING, Event.REQUEUE): Status.SUBMITTED,
        (Status.STAGING, Event.TRANSFER): Status.TRANSFERRING,
        (Status.TRANSFERRING, Event.RETRANSFER): Status.TRANSFERRING,
        (Status.TRANSFERRING, Event.RESTAGE): Status.STAGING,
        (Status.TRANSFERRING, Event.DELIVER): Status.SUCCESS,
        (Status.SUBMITTED, Event.FAIL): Status.ERROR,
        (Status.STAGING, Event.FAIL): Status.ERROR,
        (Status.TRANSFERRING, Event.FAIL): Status.ERROR,
        (Status.SUBMITTED, Event.CANCEL): Status.CANCELLED,
        (Status.STAGING, Event.CANCEL): Status.CANCELLED,
        (Status.TRANSFERRING, Event.CANCEL): Status.CANCELLED,
    }
)


def after(status: Status, event: Event) -> Status:
    """The status that `event` leads to from `status`; IllegalTransition when there is none."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise IllegalTransition(f"a job in {status} can't take the event {event!s}") from None

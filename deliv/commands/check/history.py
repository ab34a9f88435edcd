"""Whether a job's events are a path through the transition table that ends where the job is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import combinations_with_replacement, pairwise

from deliv.model.states import END_TIMES, FINAL, TRANSITIONS, Event, Status
from deliv.store.inspection import Record, Step, StepBack

CLOCK_SLACK = timedelta(seconds=10)  # a smaller step of the clock may not have been noticed
NEW_ATTEMPT = frozenset({Event.RESTAGE, Event.RETRANSFER})


def problems(record: Record, steps_back: Sequence[StepBack] = ()) -> Iterator[str]:
    """Sentences without a subject: "has no events" ..."""
    steps, job = record.steps, record.job
    if not steps:
        yield "has no events"
        return
    if (steps[0].status, steps[0].attempt) != (Status.SUBMITTED, 1):
        yield f"begins its history as {_named(steps[0])}"
    for before, after in pairwise(steps):
        if not may_follow(before, after):
            yield f"went from {_named(before)} to {_named(after)}, which no event leads to"
        if out_of_order(before.time, after.time, steps_back):
            yield f"became {_named(after)} before it was {_named(before)}"
    if (steps[-1].status, steps[-1].attempt) != (job.status, job.attempt):
        yield f"is {job.status} (attempt {job.attempt}), but its last event was {_named(steps[-1])}"
    if job.version < len(steps) - 1:
        yield f"has {len(steps)} events, but its version is {job.version}"
    if job.status in FINAL and steps[-1].status is job.status:
        time = getattr(job, END_TIMES[job.status])
        if time is not None and abs(time - steps[-1].time) > CLOCK_SLACK:
            yield f"ended at {time:%F %T}, but its last event is of {steps[-1].time:%F %T}"


def out_of_order(first: datetime, second: datetime, steps_back: Sequence[StepBack]) -> bool:
    """Whether what came second has the earlier time, and no step back of the clock explains that.

    One may explain it, or several of them in a row.
    """
    return second < first - CLOCK_SLACK and not any(
        first <= begin.was + CLOCK_SLACK and second >= end.became - CLOCK_SLACK
        for begin, end in combinations_with_replacement(steps_back, 2)
    )


def may_follow(before: Step, after: Step) -> bool:
    """Whether one event leads from the one step to the other."""
    return any(
        TRANSITIONS.get((before.status, event)) is after.status
        and after.attempt == before.attempt + (event in NEW_ATTEMPT)
        and _fits(event, before, after)
        for event in Event
    )


def _fits(event: Event, before: Step, after: Step) -> bool:
    if event is Event.STAGED:
        return after.staged and not before.staged
    if event is Event.TRANSFER:
        return before.staged
    if event in {Event.ADMIT, Event.RESTAGE, Event.REQUEUE}:
        return not after.staged
    return True


def _named(step: Step) -> str:
    staged = ", staged" if step.staged and step.status is Status.STAGING else ""
    return f"{step.status} (attempt {step.attempt}{staged})"

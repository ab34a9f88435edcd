"""What unfinished jobs wait for that is not written down with them: it changes with others.

A place that rests, a limit, FTS or the stager being out. However many jobs, it takes a few queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deliv.http.services import Services
from deliv.model.job import Job
from deliv.model.phase import AT_FTS, AT_STAGER, Phase, has_place, phase
from deliv.model.rest import WAITING


async def as_of_now(services: Services, jobs: Sequence[Job]) -> list[Job]:
    """The jobs as they are shown. What a job says itself comes first, then a limit."""
    resting = await services.submissions.as_resting(jobs)
    silent = [job for job in resting if job.detailed_status is None]
    held = await services.submissions.held_by(silent)
    why = {
        job.job_id: f"{WAITING}{held[job.job_id]}" if job.job_id in held else _outage(services, job)
        for job in silent
    }
    return [
        replace(job, detailed_status=why.get(job.job_id, job.detailed_status)) for job in resting
    ]


def _outage(services: Services, job: Job) -> str | None:
    """That the stager or the FTS which has the job is down, until the job itself says it.

    Or that all are, where it waits for any.
    """
    reason = None
    if phase(job) in AT_FTS:
        who = f"FTS ({job.fts_endpoint})"
        reason = services.outage(f"fts:{job.fts_endpoint}")
    elif phase(job) in AT_STAGER:
        who, reason = "the stager", services.outage("stager")
    elif phase(job) is Phase.STAGED and not has_place(job):
        outages = [services.outage(f"fts:{name}") for name in services.endpoints.names]
        who, reason = "FTS", "; ".join(filter(None, outages)) if all(outages) else None
    return f"{WAITING}{who} can't be asked: {reason}" if reason else None

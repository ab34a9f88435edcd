"""What a job's `detailed_status` says while it waits for something."""

from __future__ import annotations

from deliv.model.job import Job
from deliv.model.phase import Phase, phase

WAITING = "waiting: "  # so it begins


def no_longer_waiting(job: Job) -> dict[str, None]:
    """What is to be set when the job goes on. One that is being stopped waits until its end."""
    waited = (job.detailed_status or "").startswith(WAITING)
    return {"detailed_status": None} if waited and phase(job) is not Phase.STOPPING else {}

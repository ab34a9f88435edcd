"""What a job shows while it waits for something."""

from __future__ import annotations

from deliv.model.job import Job
from deliv.model.phase import Phase, phase
from deliv.model.rest import WAITING


def no_longer_waiting(job: Job) -> dict[str, None]:
    """What is to be set when the job goes on. One that is being stopped waits until its end."""
    waited = (job.detailed_status or "").startswith(WAITING)
    if (job.waiting_for is None and not waited) or phase(job) is Phase.STOPPING:
        return {}
    return {"detailed_status": None, "waiting_for": None, "waiting_since": None}

"""What the job that this one repeats may have left where this one's copy belongs.

Of a job that FTS never had nothing is there: the one that it repeats counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from deliv.delivery.comparison import Leftover
from deliv.delivery.destination import destination_file, staged_url
from deliv.model.file import File, FileState
from deliv.model.job import Job
from deliv.store import Store


async def of_single_file(store: Store, job: Job) -> Leftover | None:
    """None where that job can't have written to the same file."""
    earlier = await _earlier(store, job)
    if earlier is None or not earlier.partial:
        return None
    return _leftover(earlier, job, job.stager_path or "", copy_begun=earlier.copy_begun)


async def of_files(store: Store, job: Job, files: Sequence[File]) -> dict[str, Leftover]:
    """Of those of the job's files that have one, by name; none of a job that is archived."""
    earlier = await _earlier(store, job) if files else None
    if earlier is None:
        return {}
    found = await store.files_named(earlier, [file.name for file in files])
    return {
        file.name: _leftover(
            earlier,
            job,
            f"{job.stager_path}/{file.name}",
            copy_begun=file.copy_begun or file.state is FileState.FINISHED,
        )
        for file in found
        if file.partial or file.state is FileState.FINISHED
    }


async def _earlier(store: Store, job: Job) -> Job | None:
    """The job whose copies have the same place at the destination."""
    earlier = await store.last_copied(job)
    if earlier is None or (earlier.report is None) != (job.report is None):
        return None
    return earlier if destination_file(earlier) == destination_file(job) else None


def _leftover(earlier: Job, job: Job, path: str, *, copy_begun: bool) -> Leftover:
    return Leftover(
        job_id=earlier.job_id,
        ended=earlier.time_error,
        copy_begun=copy_begun,
        staged=staged_url(job.stager_hostname or "", path),
    )

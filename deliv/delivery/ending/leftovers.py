"""What jobs that this one repeats may have left where this one's copy belongs.

Of a job that FTS never had nothing is there, and of one that it did not begin to copy what was
there before: so all those that it repeats are looked at, the last one first. Where several may have
left a file, the last one counts of which FTS has recorded that its copy had begun.
"""

from __future__ import annotations

from collections.abc import Sequence

from deliv.delivery.comparison import Leftover
from deliv.delivery.destination import destination_file, staged_url
from deliv.model.file import File, FileState
from deliv.model.job import Job
from deliv.store import Store


async def of_single_file(store: Store, job: Job) -> Leftover | None:
    """None where none of those jobs can have written to the same file."""
    path = job.stager_path or ""
    left = [
        _leftover(earlier, job, path, recorded=earlier.copy_begun or earlier.copy_recorded)
        for earlier in await _earlier(store, job)
        if earlier.partial
    ]
    return next((one for one in left if one.copy_recorded), left[0] if left else None)


async def of_files(store: Store, job: Job, files: Sequence[File]) -> dict[str, Leftover]:
    """Of those of the job's files that have one, by name; none of jobs that are archived."""
    left: dict[str, Leftover] = {}
    open_names = {file.name for file in files}
    for earlier in await _earlier(store, job) if files else ():
        for file in await store.files_named(earlier, sorted(open_names)) if open_names else ():
            there = file.state is FileState.FINISHED
            if not (there or file.partial):
                continue
            recorded = there or file.copy_begun or file.copy_recorded
            if recorded or file.name not in left:
                path = f"{job.stager_path}/{file.name}"
                left[file.name] = _leftover(earlier, job, path, recorded=recorded)
            if recorded:
                open_names.discard(file.name)
    return left


async def _earlier(store: Store, job: Job) -> list[Job]:
    """The jobs whose copies have the same place at the destination, the last one first."""
    return [
        earlier
        for earlier in await store.copied_before(job)
        if (earlier.report is None) == (job.report is None)
        and destination_file(earlier) == destination_file(job)
    ]


def _leftover(earlier: Job, job: Job, path: str, *, recorded: bool) -> Leftover:
    return Leftover(
        job_id=earlier.job_id,
        ended=earlier.time_error,
        copy_recorded=recorded,
        staged=staged_url(job.stager_hostname or "", path),
    )

"""Which of a job's files are one transfer, and what FTS is asked to copy for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from deliv.config import FtsSettings
from deliv.delivery.destination import destination_file, file_url, staged_url, url_key
from deliv.delivery.endpoints import sid
from deliv.gateways.fts import Copy, Transfer
from deliv.model.file import File
from deliv.model.job import Job
from deliv.model.turns import FIRST_FILES
from deliv.store import SliceLimits

# Files of the first transfer of each attempt. Where most of them fail for one reason, the others
# are not tried.
FIRST_SLICE = FIRST_FILES


def limits(number: int, settings: FtsSettings) -> SliceLimits:
    """What the transfer of this number may have.

    Nothing else decides that: after a restore the same files are asked for under the same id.
    """
    files = settings.files_per_transfer
    return SliceLimits(
        number=number,
        files=files if number else min(FIRST_SLICE, files),
        bytes=settings.bytes_per_transfer,
    )


def file_key(job: Job, file: File) -> bytes:
    """That of the URL which it is delivered to."""
    return url_key(file_url(destination_file(job), file.name))


def transfer(job: Job, files: Sequence[File]) -> Transfer:
    """The job's transfer; without `files` it has one file, which the job itself describes."""
    host, path, directory = job.stager_hostname or "", job.stager_path or "", destination_file(job)
    about: dict[str, object] = {"deliv_job_id": job.job_id, "attempt": job.attempt}
    if job.report is None:
        copy = Copy(
            source=staged_url(host, path),
            destination=directory,
            checksum=job.checksum,
            size=job.product_size,
        )
        # never where a file may be somebody else's
        overwrite = job.copy_begun
        return Transfer(sid=sid(job), copies=(copy,), overwrite=overwrite, metadata=about)
    copies = tuple(
        Copy(
            source=staged_url(host, f"{path}/{file.name}"),
            destination=file_url(directory, file.name),
            checksum=file.checksum,
            size=file.size,
        )
        for file in files
    )
    return Transfer(
        sid=sid(job),
        copies=copies,
        overwrite=all(file.copy_begun for file in files),
        metadata=about | {"slice": job.slice},
    )

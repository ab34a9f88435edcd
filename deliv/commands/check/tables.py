"""What must hold for the tables as a whole: the outbox, the leases, ids that only one may have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from deliv.commands.check.findings import Finding, Fix
from deliv.model.states import FINAL
from deliv.store.admission import LEASE
from deliv.store.inspection import Inspection, LeaseRow

ENOUGH = 100  # examples of one kind


async def tables(
    inspection: Inspection, ttls: Mapping[str, float], patience: float
) -> AsyncIterator[Finding]:
    """`ttls`: the leases there are, with their duration; `patience` as elsewhere, in seconds."""
    for finding in leases(await inspection.leases(), ttls, patience):
        yield finding
    waiting = await inspection.waiting(patience)
    if waiting.number:
        text = (
            f"{waiting.number} messages wait for RabbitMQ, the oldest since "
            f"{waiting.oldest:%F %T} UTC (job {waiting.example})"
        )
        yield Finding(rule="outbox", text=text)
    for fts_jobid, first, last in await inspection.shared_transfers(ENOUGH):
        text = f"has the transfer {fts_jobid}, as the job {last} has"
        yield Finding(rule="transfer", text=text, job_id=first)
    for submitter in await inspection.miscounted(ENOUGH):
        text = f"the counts of {submitter}'s jobs are not those of the jobs"
        yield Finding(rule="counts", text=text, subject=submitter, fix=Fix.COUNTS)
    if await inspection.space_miscounted():
        text = "the space that stagings take is not counted as the stagings say"
        yield Finding(rule="counts", text=text, fix=Fix.SPACE)
    for job_id, version, status in await inspection.miscounted_files(ENOUGH):
        fix = None if status in FINAL else Fix.FILES
        text = "has another number of files that are there than it says"
        yield Finding(rule="files", text=text, job_id=job_id, version=version, fix=fix)
    for job_id in await inspection.unassigned_files(ENOUGH):
        text = "has files with a transfer that it has not, or a transfer without files"
        yield Finding(rule="files", text=text, job_id=job_id)
    for job_id, report in await inspection.stray_files(ENOUGH):
        text, subject = "has files, but is no job", report.hex()
        yield Finding(rule="files", text=text, job_id=job_id, subject=subject, fix=Fix.STRAY_FILES)
    for staging in await inspection.unattended_stagings(patience, ENOUGH):
        text = "is a staging that something is to be done for, and no worker attends to it"
        fix, version = Fix.STAGING_DUE, staging.version
        yield Finding(
            rule="staging", text=text, job_id=staging.staging_id, version=version, fix=fix
        )
    for job_id, version in await inspection.unheard(patience, ENOUGH):
        text = "waits for a staging that has ended, or that there is not"
        yield Finding(rule="staging", text=text, job_id=job_id, version=version, fix=Fix.DUE)
    for staging_id in await inspection.stray_staging_files(ENOUGH):
        text = "has files, but is no staging"
        yield Finding(rule="staging", text=text, job_id=staging_id, fix=Fix.STAGING_FILES)
    for job_id in await inspection.stray_writers(ENOUGH):
        text = "keeps others from writing a file that it does not write"
        yield Finding(rule="destination", text=text, job_id=job_id, fix=Fix.WRITER)
    for job_id, version in await inspection.restless(ENOUGH):
        text = "rests at a place that is unknown: it would rest for ever"
        yield Finding(rule="rest", text=text, job_id=job_id, version=version, fix=Fix.REST)
    for job_id in await inspection.twice(ENOUGH):
        text = "is in the archive too"
        yield Finding(rule="archive", text=text, job_id=job_id)


def leases(
    rows: Sequence[LeaseRow], ttls: Mapping[str, float], patience: float
) -> Iterator[Finding]:
    names = {row.name for row in rows}
    if LEASE not in names:
        text = f"the row {LEASE!r} is missing from leases, so that no job is admitted"
        yield Finding(rule="lease", text=text, subject=LEASE, fix=Fix.ADMISSION)
    for row in rows:
        if row.name == LEASE or row.expired <= patience:
            continue
        minutes = f"{row.expired / 60:.0f} minutes ago"
        if row.name not in ttls:
            text = f"the lease {row.name!r}, run out {minutes}, is of no work that is configured"
            yield Finding(rule="lease", text=text, subject=row.name, fix=Fix.LEASE)
        elif row.owner:
            text = f"no instance does {row.name!r}: its lease, {row.owner}'s, ran out {minutes}"
            yield Finding(rule="lease", text=text, subject=row.name)

"""Whether a file that is at the destination already is the product.

FTS knows its size at most, so deliv reads it itself, under the identity that the job is copied
under. Only a file that an earlier attempt may have copied is read: one of the job, or of the job
that it repeats.

After that one had ended, its submitter was asked to look after what it had left, and may have put a
file of his own there. So it counts as its part only if FTS has recorded its copy, nothing was
written to it since, and it is the beginning of the product.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog

from deliv.delivery.delegation import CredentialDelegation
from deliv.errors import NoCredential, Unavailable, Unreachable
from deliv.gateways.gridftp import FileFacts, GridFtp
from deliv.gateways.https import HttpsClient
from deliv.model.job import Job

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """What a job that this one repeats, `job_id`, may have left of a file when it `ended`.

    `copy_recorded`: by FTS's record of one of its transfers its copy had begun there.
    `staged`: the URL of the file that is copied now.
    """

    job_id: str
    ended: datetime | None
    copy_recorded: bool
    staged: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`equal` only where size and checksum were read; `result` is for the submitter.

    `own_part`: it is a part of the product that may be overwritten.
    """

    equal: bool
    result: str
    own_part: bool = False


class DestinationComparison:
    """Without `gridftp` nothing is read."""

    def __init__(
        self,
        gridftp: GridFtp | None,
        https: HttpsClient,
        delegation: CredentialDelegation | None,
    ) -> None:
        self._gridftp = gridftp
        self._https = https
        self._delegation = delegation

    async def compare(
        self,
        job: Job,
        url: str,
        size: int | None,
        announced: str | None,
        leftover: Leftover | None = None,
    ) -> Comparison:
        """Read a file of the job's at its destination. For minutes, where it is large.

        Unavailable when the credential can't be had just now.
        """
        algorithm, _, checksum = (announced or "").partition(":")
        if self._gridftp is None:
            return _unknown("it is configured not to")
        if size is None or not checksum:
            return _unknown("the archive announced no size or no checksum")
        try:
            credential = await self._credential(job)
        except NoCredential as error:
            return _unknown(str(error))
        try:
            facts = await self._gridftp.read(
                url, size=size, algorithm=algorithm, credential=credential
            )
            if facts.size != size:
                differs = f"it has {facts.size} bytes, not {size}"
                if leftover is None:
                    return _differs(differs)
                why_not = await _why_no_part(
                    self._gridftp, url, facts, leftover, algorithm, credential
                )
                return _differs(f"{differs}; {why_not}") if why_not else _own_part(leftover)
        except Unavailable as error:
            log.warning("a destination can't be read", job_id=job.job_id, reason=str(error))
            return _unknown(error.kind if isinstance(error, Unreachable) else str(error))
        found = (facts.checksum or "").lower().rjust(len(checksum), "0")
        if found != checksum:
            return _differs(f"its {algorithm} is {found}, not {checksum}")
        return Comparison(equal=True, result="was there already: same size and checksum")

    async def _credential(self, job: Job) -> tuple[bytes, bytes]:
        if job.copying_user is None:
            return self._https.credential
        if self._delegation is None:
            raise NoCredential("no credentials are delegated to this deliv")
        return (await self._delegation.credential(job.copying_user)).refresh()


async def _why_no_part(
    gridftp: GridFtp,
    url: str,
    there: FileFacts,
    leftover: Leftover,
    algorithm: str,
    credential: tuple[bytes, bytes],
) -> str | None:
    """Why what is there may not be overwritten as the leftover; None where it may."""
    whose = f"job {leftover.job_id}, which this one repeats,"
    if not leftover.copy_recorded:
        return f"FTS has no record that {whose} had begun to copy there"
    since = leftover.ended
    if there.modified is None or since is None or there.modified > since.timestamp():
        return f"it was written to after {whose} had ended"
    if there.size == 0:
        return None
    part = await gridftp.read(url, size=there.size, algorithm=algorithm, credential=credential)
    whole = await gridftp.read_beginning(
        leftover.staged, size=there.size, algorithm=algorithm, credential=credential
    )
    if part.checksum is None or part.checksum != whole.checksum:
        return "it is not the beginning of the product"
    return None


def _own_part(leftover: Leftover) -> Comparison:
    result = f"it is the part that job {leftover.job_id}, which this one repeats, has left there"
    return Comparison(equal=False, own_part=True, result=result)


def _differs(how: str) -> Comparison:
    return Comparison(equal=False, result=f"the file there differs from the product: {how}")


def _unknown(why: str) -> Comparison:
    result = f"deliv could not compare the file there with the product: {why}"
    return Comparison(equal=False, result=result)

"""Whether a file that is at the destination already is the product.

FTS knows its size at most, so deliv reads it itself, under the identity that the job is copied
under. Only a file that an earlier attempt of the job may have copied is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from deliv.delivery.delegation import CredentialDelegation
from deliv.errors import NoCredential, Unavailable, Unreachable
from deliv.gateways.gridftp import GridFtp
from deliv.gateways.https import HttpsClient
from deliv.model.job import Job

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`equal` only where size and checksum were read; `result` is for the submitter."""

    equal: bool
    result: str


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
        self, job: Job, url: str, size: int | None, announced: str | None
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
        except Unavailable as error:
            log.warning("a destination can't be read", job_id=job.job_id, reason=str(error))
            return _unknown(error.kind if isinstance(error, Unreachable) else str(error))
        if facts.size != size:
            return _differs(f"it has {facts.size} bytes, not {size}")
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


def _differs(how: str) -> Comparison:
    return Comparison(equal=False, result=f"the file there differs from the product: {how}")


def _unknown(why: str) -> Comparison:
    result = f"deliv could not compare the file there with the product: {why}"
    return Comparison(equal=False, result=result)

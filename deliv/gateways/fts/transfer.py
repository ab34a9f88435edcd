"""Copies as deliv asks for them, and the submission that FTS reads, made by its own builders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fts3.rest.client import Submitter
from fts3.rest.client.easy import JobIdGenerator, new_job, new_transfer

from deliv.errors import Refused

LONGEST_URL = 1100  # characters: FTS's columns source_surl and dest_surl
LARGEST_METADATA = 2048  # bytes: FTS's JobMetadataSizeLimit as its sample configuration has it
NO_RETRIES = -1  # 0 would be the server's default; deliv retries by itself, as a new attempt
DEFAULT_CHECKSUM = "ADLER32"


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One file. `source` and `destination` are gsiftp URLs, `size` in bytes.

    `checksum` is ALGORITHM:HEX; without one FTS still compares both ends by ADLER32.
    """

    source: str
    destination: str
    checksum: str | None = None
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Files that are one job of FTS's; it copies several of them at once.

    `sid` names the attempt: the same one is never copied twice. `overwrite` is for all of them.
    `metadata` (JSON) comes back with the job.
    """

    sid: str
    copies: tuple[Copy, ...]
    overwrite: bool = False
    metadata: Mapping[str, object] = field(default_factory=dict)


def submission(transfer: Transfer, *, max_time_in_queue: str) -> bytes:
    """The body of POST /jobs. Refused for what FTS would accept and then fail on.

    `max_time_in_queue` needs a unit ("24h"): FTS takes a bare number as hours.
    """
    if len(json.dumps(dict(transfer.metadata))) > LARGEST_METADATA:
        raise Refused(f"the metadata is larger than FTS takes, {LARGEST_METADATA} bytes", code=400)
    job = new_job(
        transfers=[_file(copy) for copy in transfer.copies],
        verify_checksum="both",
        overwrite=transfer.overwrite,
        retry=NO_RETRIES,
        metadata=dict(transfer.metadata),
        max_time_in_queue=max_time_in_queue,
        id_generator=JobIdGenerator.deterministic,
        sid=transfer.sid,
    )
    body: str = Submitter.build_submission(transfers=job["files"], params=job["params"])
    return body.encode()


def _file(copy: Copy) -> Any:
    for url in (copy.source, copy.destination):
        if urlsplit(url).scheme != "gsiftp":
            raise Refused(f"{url} is not a gsiftp URL", code=400)
        if len(url) > LONGEST_URL:
            raise Refused(f"{url} is longer than FTS takes, {LONGEST_URL} characters", code=400)
    if copy.source == copy.destination:
        raise Refused(f"source and destination are the same file: {copy.source}", code=400)
    return new_transfer(
        copy.source,
        copy.destination,
        checksum=copy.checksum or DEFAULT_CHECKSUM,
        filesize=copy.size,  # an unknown and an empty file's size are both left out
    )

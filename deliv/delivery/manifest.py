"""The stager's list of a product's files, checked as a whole before any of it is stored.

Of the names only digests are kept, so that a long list of long names needs little memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate, islice

from deliv.delivery.destination import CONTROL, file_url, files_directory, staged_url
from deliv.errors import InvalidRequest
from deliv.gateways.fts import LONGEST_URL
from deliv.gateways.redaction import Redaction
from deliv.model.file import ReportedFile, name_key
from deliv.model.job import Job, StageReport

BATCH = 500  # files, between which other work goes on
LARGEST = 2**63 - 1  # bytes of a product
SHOWN = 200  # characters of a name


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`digest`: of the whole report; `longest`: the name of the file with the longest URL.

    `size` in bytes, None where that of a file is not reported.
    """

    digest: bytes
    count: int
    size: int | None
    longest: str


async def batches(files: Iterable[ReportedFile]) -> AsyncIterator[list[ReportedFile]]:
    """Some files at a time."""
    left = iter(files)
    while batch := list(islice(left, BATCH)):
        yield batch
        await asyncio.sleep(0)


async def check(report: StageReport) -> Manifest:
    """InvalidRequest names the first file that can't be delivered to anybody."""
    staged_to, path = report.staged_to or "", report.path or ""
    redaction = Redaction(report.authcode)
    names, digest = _Names(), sha256()
    digest.update(json.dumps([report.authcode, report.product_id, staged_to, path]).encode())
    count = size = sized = most = 0
    longest = ""
    async for batch in batches(report.files or ()):
        if redaction.found("\n".join(file.name for file in batch)):
            raise InvalidRequest("the names of files must not have the one-time code in them")
        for file in batch:
            names.add(file.name)
            size += file.size or 0
            sized += file.size is not None
            digest.update(json.dumps([file.name, file.size, file.checksum]).encode())
            if (encoded := len(file_url("", file.name))) > most:
                longest, most = file.name, encoded
        count += len(batch)
    if not count:
        raise InvalidRequest("files is empty: a product has one at least")
    if size > LARGEST:
        raise InvalidRequest(f"the files have more than {LARGEST} bytes together")
    if len(staged_url(staged_to, f"{path}/{longest}")) > LONGEST_URL:
        raise InvalidRequest(
            f"the file {_shown(longest)} has a longer URL at the archive than FTS takes, "
            f"{LONGEST_URL} characters"
        )
    known = size if sized == count else None
    return Manifest(digest=digest.digest(), count=count, size=known, longest=longest)


def directory(job: Job, path: str, count: int, longest: str) -> str:
    """The URL below which so many files, staged below `path`, are delivered for this job.

    InvalidRequest when that of the file with the `longest` name can't be delivered.
    """
    url = files_directory(job, path, count > 1)
    if len(file_url(url, longest)) > LONGEST_URL:
        raise InvalidRequest(
            f"the file {_shown(longest)} has a longer URL at the destination than FTS takes, "
            f"{LONGEST_URL} characters"
        )
    return url


def _shown(name: str) -> str:
    return repr(name if len(name) <= SHOWN else f"{name[:SHOWN]}...")


@dataclass
class _Names:
    """What names files and directories have, up to Unicode normalisation."""

    files: set[bytes] = field(default_factory=set)
    directories: set[bytes] = field(default_factory=set)
    latest: str = ""  # the directory of the name before: it is among them

    def add(self, name: str) -> None:
        """InvalidRequest for a name that no file below a directory can have beside the others."""
        parts = name.split("/")
        if not name:
            raise InvalidRequest("a file has an empty name")
        if CONTROL.search(name):
            raise InvalidRequest(f"the name {_shown(name)} has control characters")
        if name.startswith("/"):
            raise InvalidRequest(f"the name {_shown(name)} is absolute")
        if not {"", ".", ".."}.isdisjoint(parts):
            raise InvalidRequest(f"the name {_shown(name)} has an empty, . or .. part")
        key = name_key(name)
        if key in self.files:
            raise InvalidRequest(
                f"the name {_shown(name)} comes twice, or differs from another only by Unicode "
                "normalisation"
            )
        if key in self.directories:
            raise InvalidRequest(f"the name {_shown(name)} is that of a directory, too")
        self.files.add(key)
        directory = "/".join(parts[:-1])
        if directory == self.latest:
            return
        for above in accumulate(parts[:-1], "{}/{}".format):
            key = name_key(above)
            if key in self.files:
                raise InvalidRequest(
                    f"{_shown(above)} is a file, and a directory of {_shown(name)}"
                )
            self.directories.add(key)
        self.latest = directory

"""What deliv is sent about a finished staging.

For one file, and for a failure, form-encoded as on the prototype's page; for a directory in JSON,
with `files` as the last member, which is read piece by piece from the listing beside the copy.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from deliv_testbed.stager.copying import LISTING
from deliv_testbed.stager.register import Staging, State

PIECE = 2**16


@dataclass(frozen=True, kw_only=True)
class Report:
    """A body: `head`, then what is in `listing` if there is one, then `tail`."""

    content_type: str
    head: bytes
    listing: Path | None = None
    tail: bytes = b""

    @property
    def size(self) -> int:
        """In bytes; OSError when the listing is gone."""
        listed = self.listing.stat().st_size if self.listing else 0
        return len(self.head) + listed + len(self.tail)

    async def produce(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write the body; OSError when the listing is gone."""
        await write(self.head)
        if self.listing:
            with self.listing.open("rb") as listing:
                while piece := listing.read(PIECE):
                    await write(piece)
            await write(self.tail)


class Reports:
    """`gridftp` is HOST:PORT; the staging area is `path` on it and `area` on this machine."""

    def __init__(self, gridftp: str, path: str, area: Path) -> None:
        self._gridftp, self._path, self._area = gridftp, path.rstrip("/"), area

    def report(self, staging: Staging, code: str) -> Report:
        fields: dict[str, object] = {
            "job_id": staging.job_id,
            "product_id": staging.product_id,
            "authcode": code,
            "msg": staging.msg or "",
        }
        if staging.state is not State.STAGED:
            return form(fields | {"success": "false"})
        fields |= {
            "staged_to": self._gridftp,
            "path": f"{self._path}/{staging.job_id}/{staging.name}",
        }
        if staging.checksum is not None:
            one = {"success": "true", "size": staging.size, "checksum": staging.checksum}
            return form(fields | one)
        scalars = json.dumps(fields | {"success": True}, ensure_ascii=False)
        return Report(
            content_type="application/json",
            head=f'{scalars[:-1]}, "files": '.encode(),
            listing=self._area / staging.job_id / LISTING,
            tail=b"}",
        )


def form(fields: dict[str, object]) -> Report:
    return Report(content_type="application/x-www-form-urlencoded", head=urlencode(fields).encode())

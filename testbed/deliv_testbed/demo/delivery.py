"""One delivery as its submitter sees it: what the service answers, and the files that arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from deliv.model.states import FINAL, Status

# A stage of the way, and the time of the answer that begins it.
STAGES = (
    ("waiting", "time_submitted"),
    ("staging", "time_staging"),
    ("handing over", "time_staged"),
    ("transferring", "time_transferring"),
)


@dataclass(kw_only=True)
class Delivery:
    """`source` is the archive's file or directory, `directory` the one behind the destination.

    `sizes` has the bytes of each file by its name relative to the source: of a product that is one
    file `.`, of one that must fail none. `answer` is the last answer of transferStatus.
    """

    product_id: str
    sizes: Mapping[str, int]
    source: Path | None
    directory: Path
    job_id: str
    answer: dict[str, Any]

    @property
    def status(self) -> Status:
        return Status(self.answer.get("status", Status.SUBMITTED))

    @property
    def ended(self) -> bool:
        return self.status in FINAL

    @property
    def must_fail(self) -> bool:
        return self.source is None

    @property
    def is_directory(self) -> bool:
        return self.source is not None and self.source.is_dir()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    @property
    def reason(self) -> str:
        return str(self.answer.get("detailed_status", ""))

    @property
    def arrived(self) -> Path | None:
        """The file or directory at the destination; None before its name is known."""
        name = PurePosixPath(self.answer.get("stager_path", "")).name
        return self.directory / name if name else None

    @property
    def arrived_sizes(self) -> dict[str, int]:
        """How much of each file is at the destination already; of those that are begun."""
        place = self.arrived
        files = {name: place / name for name in self.sizes} if place else {}
        return {name: file.stat().st_size for name, file in files.items() if file.is_file()}

    @property
    def arrived_bytes(self) -> int:
        return sum(self.arrived_sizes.values())

    @property
    def arrived_files(self) -> int:
        """How many are there with all their bytes."""
        return sum(self.sizes[name] == size for name, size in self.arrived_sizes.items())

    def stages(self) -> list[tuple[str, float]]:
        """Each stage that was reached, with the seconds it took; of a job that has ended."""
        reached = [(stage, start) for stage, start in STAGES if start in self.answer]
        ends = [*(start for _, start in reached[1:]), self._end]
        return [
            (stage, (self._time(end) - self._time(start)).total_seconds())
            for (stage, start), end in zip(reached, ends, strict=True)
        ]

    def seconds(self) -> float:
        """From submission to the end."""
        return (self._time(self._end) - self._time("time_submitted")).total_seconds()

    @property
    def _end(self) -> str:
        return f"time_{self.status.lower()}"

    def _time(self, name: str) -> datetime:
        return datetime.fromisoformat(self.answer[name])

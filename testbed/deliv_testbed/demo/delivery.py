"""One delivery as its submitter sees it: what the service answers, and the file that arrives."""

from __future__ import annotations

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
    """`size` in bytes; `source` the archive's file, `directory` the one behind the destination.

    `answer` is the last answer of transferStatus.
    """

    product_id: str
    size: int
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
    def reason(self) -> str:
        return str(self.answer.get("detailed_status", ""))

    @property
    def arrived(self) -> Path | None:
        """The file at the destination; None before its name is known."""
        name = PurePosixPath(self.answer.get("stager_path", "")).name
        return self.directory / name if name else None

    @property
    def arrived_bytes(self) -> int:
        """How much of the file is at the destination already."""
        file = self.arrived
        return file.stat().st_size if file and file.exists() else 0

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


def units(size: float) -> str:
    """A size in bytes for people: 0 B, 4.2 KiB, 1.0 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.1f} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1024
    return f"{size:.1f} GiB"

"""A clock that a test can set, for a program under libfaketime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deliv_testbed.errors import TestbedError

LIBRARY = "faketime/libfaketimeMT.so.1"


@dataclass(frozen=True, kw_only=True)
class SteppingClock:
    """`file`, which the program can read, says how many seconds its clock is ahead."""

    file: Path

    def step(self, seconds: int) -> None:
        """From now on the clock is ahead by so much; negative: behind."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n", encoding="ascii")
        new.chmod(0o644)
        new.rename(self.file)

    @property
    def environment(self) -> dict[str, str | Path]:
        return {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": self.file,
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def _library() -> Path:
    found = sorted(Path("/usr/lib").glob(f"*/{LIBRARY}"))
    if not found:
        raise TestbedError("libfaketime is not installed")
    return found[0]

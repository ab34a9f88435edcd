"""Clocks of their own for some programs, to be changed while they run: libfaketime reads them.

The time since boot goes on as it does. But Python's `time.sleep`, and so `subprocess.run` with a
time-out, fails in such a program (EINVAL), whatever its clock says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from deliv_testbed.errors import TestbedError
from deliv_testbed.processes import Program

LIBRARY = "faketime/libfaketimeMT.so.1"


@dataclass(frozen=True, kw_only=True)
class Clock:
    """`file`, which the program can read, says how many seconds its clock is ahead: +600, -600.

    `cached`: it looks there once a second. Else it does so whenever it asks for the time, one
    thread at a time, which makes a program under load many times slower.
    """

    file: Path
    cached: bool = True

    def step(self, seconds: int) -> None:
        """From now on the clock is ahead by so much; negative: behind."""
        self.file.parent.mkdir(mode=0o755, exist_ok=True)
        new = self.file.with_name(f"{self.file.name}.new")
        new.write_text(f"{seconds:+d}\n", encoding="ascii")
        new.chmod(0o644)
        new.rename(self.file)

    @property
    def command(self) -> tuple[str, ...]:
        """What comes before a command that is to go by this clock.

        By env, so that the shell that starts it has nothing of this: the library shares memory with
        the children of a process, and removes it at the process's end.
        """
        variables = {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": self.file,
            **({"FAKETIME_CACHE_DURATION": 1} if self.cached else {"FAKETIME_NO_CACHE": 1}),
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
            "NO_FAKE_STAT": 1,
        }
        return ("/usr/bin/env", *(f"{name}={value}" for name, value in variables.items()))

    def of(self, program: Program) -> Program:
        """The program, going by this clock."""
        return replace(program, command=(*self.command, *program.command))


def _library() -> Path:
    found = sorted(Path("/usr/lib").glob(f"*/{LIBRARY}"))
    if not found:
        raise TestbedError("libfaketime is not installed")
    return found[0]

"""Clocks of their own for some parts, to be changed while they run: libfaketime reads them.

A part's file holds how many seconds it is ahead of the machine, "+600" or "-600". The time since
boot goes on as it does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deliv_testbed.processes import Program

LIBRARY = "/usr/$LIB/faketime/libfaketimeMT.so.1"  # the loader knows what $LIB is


def install(file: Path) -> None:
    """A clock that is right."""
    file.parent.mkdir(mode=0o755, exist_ok=True)
    file.write_text("+0", encoding="ascii")


def by_clock(program: Program, file: Path) -> Program:
    """The program in the time of that clock, which it looks at every second.

    By env, so that the shell that starts it has nothing of this: the library shares memory with the
    children of a process, and removes it at the process's end.
    """
    variables = {
        "LD_PRELOAD": LIBRARY,
        "FAKETIME_TIMESTAMP_FILE": file,
        "FAKETIME_CACHE_DURATION": 1,
        "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        "NO_FAKE_STAT": 1,
    }
    settings = (f"{name}={value}" for name, value in variables.items())
    return replace(program, command=("/usr/bin/env", *settings, *program.command))

"""A part's own clock: what libfaketime makes of the file."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from deliv_testbed.clocks import Clock
from deliv_testbed.processes import Program

SLOW = 200  # seconds that a busy machine may need


@pytest.mark.parametrize("offset", [0, 7200, -7200])
def test_a_program_lives_by_it(tmp_path: Path, offset: int) -> None:
    clock = Clock(file=tmp_path / "clocks" / "part")
    clock.step(offset)
    program = Program(
        name="part",
        command=("date", "+%s"),
        ready=lambda: True,
        environment={},
        directory=tmp_path,
    )
    done = subprocess.run(clock.of(program).command, capture_output=True, text=True, check=True)
    assert abs(int(done.stdout) - time.time() - offset) < SLOW

"""A destination's host that operators have rest meanwhile: nothing is admitted for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def resting(config: Path | str, host: str) -> Iterator[None]:
    """`config` is that of an instance."""
    queue = [sys.executable, "-m", "deliv.cli", "queue", "--config", config]
    subprocess.run([*queue, "rest", host, "--reason", "a test"], check=True, timeout=200)
    try:
        yield
    finally:
        subprocess.run([*queue, "resume", host], check=True, timeout=200)

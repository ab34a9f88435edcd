"""Running the programs that do the work (ip, mount, mmdebstrap, ...)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from tools.hosts.errors import HostsError


def run(*command: str, timeout: float = 60) -> str:
    """Its standard output; HostsError with its error output when it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except FileNotFoundError as error:
        raise HostsError(f"{command[0]} is not installed: see tools/packages") from error
    except subprocess.TimeoutExpired as error:
        raise HostsError(f"{' '.join(command)} took over {timeout:.0f} s") from error
    if done.returncode:
        message = done.stderr.strip() or done.stdout.strip()
        raise HostsError(f"{' '.join(command)}: exit code {done.returncode}: {message}")
    return done.stdout


def wait(
    condition: Callable[[], object], what: str, seconds: float, *, every: float = 0.05
) -> None:
    """Until the condition holds; HostsError names `what` when that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise HostsError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)

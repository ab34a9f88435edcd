"""Booting fleets, where hosts can be built at all."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from deploy.fleet import Fleet
from tools.hosts import lifecycle

PROGRAMS = ("mmdebstrap", "systemd-nspawn", "ip", "ssh", "nsenter")
NUMBERS = itertools.count(1)
Boot = Callable[..., AbstractContextManager[Fleet]]


@contextmanager
def booted(suite: str, *names: str, clients: tuple[str, ...] = ()) -> Iterator[Fleet]:
    """Hosts of a suite while the block runs; playbooks know `names` and do not know `clients`."""
    label = f"test-{os.getpid()}-{next(NUMBERS)}"
    try:
        yield Fleet(lifecycle.up(label, suite, names, clients))
    finally:
        lifecycle.down(label)


def why_not() -> str:
    """Why no host can be built here; "" when it can."""
    if os.geteuid():
        return "only root can build hosts"
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    return f"not installed: {', '.join(absent)}" if absent else ""

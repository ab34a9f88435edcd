"""What is tried under load: two instances that go on soon, and the wait for the end of it all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from support.running_stack import Stack

from soak.verdict import unfinished

INSTANCES = ("deliv@1", "deliv@2")
PATIENT = {"attempts": 20, "backoff": "500ms"}  # the trouble ends some time
# A copy may die with FTS after other trouble; what never comes back is to end soon all the same. On
# a busy machine a staging takes many times the second that it needs.
LIMITED = {"attempts": 5, "backoff": "500ms"}
# What FTS is to forget must be admitted while it copies nothing.
ALL = dict.fromkeys(
    ("in_flight", "per_submitter", "per_destination", "per_submitter_and_destination"), 10_000
)
SETTINGS: dict[str, Any] = {
    "limits": {**ALL, "staging": ALL},
    # A credential that ends is delegated again within a minute, for which its copies wait.
    "fts": {"reconcile_every": "5s", "misses": 12},
    "stager": {"timeout": "25s"},
    "sweeps": {"every": "1s", "lease": "5s", "hold": "30s", "ask_again": "2s"},
    "rests": {"first_pause": "1s", "longest_pause": "5s", "keep_staged": "10s"},
    "retries": {
        "unreachable": PATIENT, "other": PATIENT, "source missing": PATIENT,
        "checksum": PATIENT, "credential": PATIENT, "timeout": LIMITED,
    },
}  # fmt: skip
# Seconds for what is unfinished when the load ends: in all, and without any job that ends.
AFTERWARDS, STANDSTILL = 1800.0, 180.0


def configure(stack: Stack) -> list[str]:
    """Restart both instances with these settings; their URLs."""
    return [_configure(stack, instance) for instance in INSTANCES]


def _configure(stack: Stack, instance: str) -> str:
    name = "deliv.yaml" if instance == INSTANCES[0] else f"{instance}.yaml"
    path = Path(stack.directory / name)
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, settings in SETTINGS.items():
        config.setdefault(section, {}).update(settings)
    # A token of the stager's is rightly refused when it seems to be from another time.
    config["stager"]["callback"]["token"]["clock_skew"] = "1h"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    stack.control("kill", instance)
    stack.control("start", instance)
    return str(config["rest"]["public_url"])


@contextmanager
def beside(run: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """Runs something in a thread for as long as a block takes; its error is the block's."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield
        finally:
            stop()
        running.result()


def wait_until_all_is_done(stack: Stack) -> None:
    end = time.monotonic() + AFTERWARDS
    left, since = unfinished(stack), time.monotonic()
    while left and time.monotonic() < min(end, since + STANDSTILL):
        time.sleep(1)
        if (now := unfinished(stack)) < left:
            left, since = now, time.monotonic()

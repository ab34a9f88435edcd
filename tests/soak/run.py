"""The soak: two instances under load and in trouble, and whether anything was lost.

make soak MINUTES=15
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from load import Load
from running_stack import Stack, brought_up
from trouble import EVERY, Trouble
from verdict import complaints, unfinished
from watch import Watch

INSTANCES = ("deliv@1", "deliv@2")
PATIENT = {"attempts": 20, "backoff": "500ms"}  # the trouble ends some time
LIMITED = {"attempts": 3, "backoff": "500ms"}
SETTINGS: dict[str, Any] = {
    "sweeps": {"every": "1s", "lease": "5s", "hold": "10s", "ask_again": "2s"},
    "retries": {
        "unreachable": PATIENT, "other": PATIENT, "source missing": PATIENT,
        "checksum": PATIENT, "credential": PATIENT, "timeout": LIMITED,
    },
}  # fmt: skip
STAGING_TIMEOUT = "20s"
AFTERWARDS = 600.0  # seconds for what is unfinished when the load ends


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=float, default=5, help="jobs per second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with brought_up("--instances", "2") as stack:
        return soak(stack, options.minutes * 60, options.rate, options.seed)


def soak(stack: Stack, seconds: float, rate: float, seed: int) -> int:
    """Exit code 0 when nothing was lost, nothing done twice, and nothing grew."""
    urls = [_configure(stack, instance) for instance in INSTANCES]
    load, trouble = Load(stack, urls, rate, seed), Trouble(stack, seed)
    watch = Watch(stack, list(INSTANCES))
    with _beside(watch.run, watch.stop):
        with _beside(trouble.run, trouble.stop):
            load.run(seconds)
        _wait_until_all_is_done(stack)
    found = [*load.refused, *trouble.mishaps, *complaints(stack, load.accepted), *watch.growth()]
    _print(load, trouble, watch, found, seconds)
    return 1 if found else 0


def _configure(stack: Stack, instance: str) -> str:
    """Restart an instance with the soak's settings; its URL."""
    name = "deliv.yaml" if instance == INSTANCES[0] else f"{instance}.yaml"
    path = Path(stack.directory / name)
    config = {**yaml.safe_load(path.read_text(encoding="utf-8")), **SETTINGS}
    config["stager"]["timeout"] = STAGING_TIMEOUT
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    stack.command("kill", instance)
    stack.command("start", instance)
    return str(config["rest"]["public_url"])


@contextmanager
def _beside(run: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """Runs something in a thread for as long as a block takes; its error is the block's."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield
        finally:
            stop()
        running.result()


def _wait_until_all_is_done(stack: Stack) -> None:
    deadline = time.monotonic() + AFTERWARDS
    while unfinished(stack) and time.monotonic() < deadline:
        time.sleep(1)


def _print(load: Load, trouble: Trouble, watch: Watch, found: list[str], seconds: float) -> None:
    for text in found[:50]:
        print(f"  {text}")
    faults = sum(trouble.survived.values())
    for fault, count in sorted(trouble.survived.items()):
        print(f"  {count:4} x {fault}")
    print(
        f"{faults} faults survived in {seconds:.0f} s (one every {EVERY:.0f} s was planned), "
        f"{len(load.accepted)} jobs held, {len(found)} complaints; {watch.summary()}"
    )


if __name__ == "__main__":
    sys.exit(main())

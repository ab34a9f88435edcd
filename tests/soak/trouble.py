"""Faults from a seed: parts of the stack are killed, stopped, frozen and brought back."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from deliv_testbed.errors import TestbedError
from support.running_stack import Stack

EVERY = 7.0  # seconds from one fault to the next
KILLED = (0.5, 5.0)  # seconds that a part stays away
FROZEN = (1.0, 7.0)
GRIDFTP = ("gridftp-archive", "gridftp-destination")


class Trouble:
    def __init__(self, stack: Stack, seed: int) -> None:
        self._stack = stack
        self._random = random.Random(seed)
        # One at a time: an instance is not started while MariaDB, which it migrates first, stops.
        self._commands = threading.Lock()
        self._parts = list(stack.testbed["pids"])
        self._disturbed: set[str] = set()
        self._over = threading.Event()
        self.survived: Counter[str] = Counter()
        self.mishaps: list[str] = []

    def run(self) -> None:
        """One fault after another until `stop`; then everything runs again."""
        with ThreadPoolExecutor(8) as pool:
            while not self._over.wait(EVERY):
                if well := [part for part in self._parts if part not in self._disturbed]:
                    part, kind, seconds = self._choose(well)
                    self._disturbed.add(part)
                    pool.submit(self._cause, part, kind, seconds)

    def stop(self) -> None:
        self._over.set()

    def _choose(self, parts: list[str]) -> tuple[str, str, float]:
        part = self._random.choice(parts)
        kind = self._random.choice(["kill", "stop", "freeze"])
        if part in GRIDFTP and kind == "stop":
            kind = "kill"  # it knows no other way
        return part, kind, self._random.uniform(*(FROZEN if kind == "freeze" else KILLED))

    def _cause(self, part: str, kind: str, seconds: float) -> None:
        causes: dict[str, Callable[[str, float], None]] = {
            "kill": self._kill, "stop": self._terminate, "freeze": self._freeze,
        }  # fmt: skip
        try:
            causes[kind](part, seconds)
            self.survived[f"{kind} {part}"] += 1
        except (AssertionError, OSError, TestbedError) as error:
            self.mishaps.append(f"{kind} {part}: {error}")
        finally:
            self._disturbed.discard(part)

    def _kill(self, part: str, seconds: float) -> None:
        self._command("kill", part)
        time.sleep(seconds)
        self._command("start", part)

    def _terminate(self, part: str, seconds: float) -> None:
        with self._commands:
            self._stack.stop(part)
        time.sleep(seconds)
        self._command("start", part)

    def _freeze(self, part: str, seconds: float) -> None:
        self._command("freeze", part)
        time.sleep(seconds)
        self._command("thaw", part)

    def _command(self, action: str, part: str) -> None:
        with self._commands:
            self._stack.control(action, part)

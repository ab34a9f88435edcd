"""A stack of two instances that take each other's work up quickly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.running_stack import Stack, Target, brought_up, until

HERE = Path(__file__).parent
INSTANCES = (1, 2)
HOLD = 3  # seconds until another instance takes up what one has claimed
REQUEST_TIMEOUT = 3
PATIENT = {"timeout": "600s"}  # for the stager: longer than any outage here
RECONCILE_EVERY = "5s"  # so short is the life of the lease that a killed instance leaves, too
SWEEPS = {"every": "500ms", "lease": "2s", "hold": f"{HOLD}s", "ask_again": "1s"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.rotating)


class Pair(Stack):
    """Its instances are deliv@1 and deliv@2; only the first has fault points."""

    @property
    def faults(self) -> Path:
        return self.directory / "faults"

    def config(self, number: int) -> Path:
        return self.directory / ("deliv.yaml" if number == 1 else f"deliv@{number}.yaml")

    def settings(self, number: int) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(self.config(number).read_text(encoding="utf-8"))
        return document

    def configure(self, number: int, **changes: dict[str, Any] | str) -> None:
        """Merge into the sections of an instance's configuration; it takes effect at its start."""
        settings = self.settings(number)
        for name, change in changes.items():
            merged = {**settings.get(name, {}), **change} if isinstance(change, dict) else change
            settings[name] = merged
        self.config(number).write_text(yaml.safe_dump(settings), encoding="utf-8")

    def restart(self, number: int) -> None:
        """With its leases handed on: those of a killed one run out in their own time."""
        self.stop(f"deliv@{number}")
        self.start(number)

    def kill(self, number: int) -> None:
        self.control("kill", f"deliv@{number}")

    def start(self, number: int) -> None:
        part = f"deliv@{number}"
        self.control("start", part)
        until(lambda: self.readiness(number).get("status") == "ready", f"{part} is ready")

    def instance(self, number: int) -> Stack:
        """The stack as seen through one of the instances."""
        return _One(self.directory, self.settings(number))

    def readiness(self, number: int) -> dict[str, Any]:
        return self.instance(number).ready()

    def log(self, number: int) -> list[dict[str, Any]]:
        """The lines an instance has written since the stack came up."""
        text = (self.directory / "log" / f"deliv@{number}.log").read_text(encoding="utf-8")
        lines = text.rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def check(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`deliv check`."""
        return subprocess.run(
            [sys.executable, "-m", "deliv.cli", "check", "--config", self.config(2), *options],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


class _One(Stack):
    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        super().__init__(directory)
        self._settings = settings

    @property
    def testbed(self) -> dict[str, Any]:
        own = {
            "url": self._settings["rest"]["public_url"],
            "monitoring_url": f"http://{self._settings['monitoring']}",
        }
        return super().testbed | own


@contextmanager
def prepared(*options: str) -> Iterator[Pair]:
    with brought_up("--instances", "2", "--without", "deliv", *options) as stack:
        pair = Pair(stack.directory)
        pair.faults.mkdir()
        pair.faults.chmod(0o777)  # deliv runs as another user when the tests run as root
        timeout = {"request_timeout": f"{REQUEST_TIMEOUT}s"}
        for number in INSTANCES:
            pair.configure(
                number,
                sweeps=SWEEPS,
                retention={"every": "1s"},
                fts=timeout | {"reconcile_every": RECONCILE_EVERY},
                stager=timeout | PATIENT,
            )
        pair.configure(1, faults=str(pair.faults))
        for number in INSTANCES:
            pair.start(number)
        yield pair


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    with prepared() as pair:
        yield pair


@pytest.fixture
def target(pair: Pair) -> Target:
    return pair.target()


@pytest.fixture(autouse=True)
def whole(pair: Pair) -> Iterator[None]:
    """After each test all the data fits together, here and at the stager and FTS."""
    yield
    found: list[str] = []

    def clean() -> bool:
        done = pair.check()
        found[:] = [done.stdout + done.stderr]
        return done.returncode == 0

    try:
        until(clean, "deliv check is clean")
    finally:
        print(*found)

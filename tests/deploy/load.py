"""Callers at a host of theirs who submit and look at their jobs while deliv is worked on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.client import HOME
from deploy.fleet import Fleet
from tools.hosts import guest

CALLERS = Path(__file__).with_name("callers.py")
END_WITHIN = 120.0  # seconds for what is under way when the load ends


class Load:
    """While the block runs, callers call; afterwards `calls`, `retried`, `failures` and `jobs`.

    `jobs` maps the ids of what was accepted to the destination. A failure is a call with another
    answer than 200 or 202; one that was answered 503 is first tried once more, as the API asks.
    """

    def __init__(self, fleet: Fleet, host: str, url: str, product: str, destination: str) -> None:
        self._host = fleet.run.host(host)
        self._given = {
            "url": url, "home": str(HOME), "product": product, "destination": destination,
        }  # fmt: skip
        self.calls = self.retried = 0
        self.failures: list[Any] = []
        self.jobs: dict[str, str] = {}

    def __enter__(self) -> Self:
        command = ["python3", "-c", CALLERS.read_text(), json.dumps(self._given)]
        self._callers = subprocess.Popen(
            guest.enter_command(self._host, command),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            said, _unused = self._callers.communicate(timeout=END_WITHIN)
        except subprocess.TimeoutExpired:
            self._callers.kill()
            raise
        assert self._callers.returncode == 0
        found = json.loads(said)
        self.calls, self.retried = found["calls"], found["retried"]
        self.failures, self.jobs = found["failures"], found["jobs"]

"""Callers at a client host who submit jobs and read their status while deliv is changed."""

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
END_WITHIN = 120.0  # seconds for the calls in flight when the load ends


class Load:
    """While the block runs, callers call; afterwards it has `calls`, `retried`, `failures`, `jobs`.

    `jobs` maps the ids of accepted jobs to their destination. A failure is a call with another
    answer than 200 or 202; after a 503 it is first repeated once, as the API asks.
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
            output, _unused = self._callers.communicate(timeout=END_WITHIN)
        except subprocess.TimeoutExpired:
            self._callers.kill()
            raise
        assert self._callers.returncode == 0
        found = json.loads(output)
        self.calls, self.retried = found["calls"], found["retried"]
        self.failures, self.jobs = found["failures"], found["jobs"]

"""A user who goes on submitting while the service is changed."""

from __future__ import annotations

import itertools
import threading
from types import TracebackType
from typing import Self

from deploy.client import Answer, Client
from deploy.deployment import Deployment

PRODUCT = "1510850130-sdp-l0.rdb"
PAUSE = 1.0  # second between two submissions


class Steady:
    """While the block runs, jobs are submitted, each to a directory of its own below `place`.

    After a 503 the call is repeated once, as the API asks. `jobs` are the ids of accepted jobs,
    `failures` the other answers.
    """

    def __init__(self, deployment: Deployment, user: Client, place: str) -> None:
        self._deployment, self._user, self._place = deployment, user, place
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit, daemon=True)
        self.jobs: list[str] = []
        self.failures: list[Answer] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def assert_nothing_lost(self, seconds: float = 120) -> None:
        """Every submission was accepted, and every job succeeds."""
        assert self.failures == []
        assert self.jobs, "nothing was submitted"
        for job in self.jobs:
            found = self._user.wait_until_final(job, seconds)
            assert found["status"] == "SUCCESS", found

    def _submit(self) -> None:
        for number in itertools.count():
            place = self._deployment.destination(f"{self._place}/{number}")
            key = f"{self._place}-{number}"
            answer = self._user.submit(PRODUCT, place, Idempotency_Key=key)
            if answer.status == 503:
                answer = self._user.submit(PRODUCT, place, Idempotency_Key=key)
            if answer.status == 202:
                self.jobs.append(answer.body["job_id"])
            else:
                self.failures.append(answer)
            if self._stop.wait(PAUSE):
                return

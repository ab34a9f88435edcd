"""A user at a client host: curl, a certificate, and deliv's REST API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from deploy.fleet import Fleet
from tools.hosts.programs import wait

HOME = PurePosixPath("/root/grid")
FINAL = {"SUCCESS", "ERROR", "CANCELLED"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """deliv's answer: HTTP status (0: none) and the JSON of its body."""

    status: int
    body: dict[str, Any]
    error: str = ""


class Client:
    """`url` is deliv's base address, e.g. https://deliv:8443."""

    def __init__(self, fleet: Fleet, host: str, url: str) -> None:
        self._fleet, self._host, self.url = fleet, host, url

    def equip(self, certificate: bytes, key: bytes, authorities: dict[str, bytes]) -> None:
        """Write the user's credential and the files of the CA directory (by name) on the host."""
        self._fleet.put(self._host, HOME / "cert.pem", certificate)
        self._fleet.put(self._host, HOME / "key.pem", key, mode=0o400)
        for name, content in authorities.items():
            self._fleet.put(self._host, HOME / "certificates" / name, content)

    def submit(self, product: str, destination: str, **headers: str) -> Answer:
        """POST /submitTransfer. A header is given as `Idempotency_Key="..."`."""
        options = []
        for name, value in headers.items():
            options += ["--header", f"{name.replace('_', '-')}: {value}"]
        for name, value in (("product_id", product), ("destination_path", destination)):
            options += ["--data-urlencode", f"{name}={value}"]
        return self.curl("/submitTransfer", *options)

    def status(self, job: str) -> Answer:
        return self.curl(f"/transferStatus?job_id={job}")

    def wait_until_final(self, job: str, seconds: float = 120) -> dict[str, Any]:
        """The job's fields once it has ended, in any state."""
        last: dict[str, Any] = {}

        def ended() -> bool:
            last.update(self.status(job).body)
            return last.get("status") in FINAL

        wait(ended, f"job {job} ends", seconds, every=0.5)
        return last

    def curl(self, path: str, *options: str) -> Answer:
        done = self._fleet.execute(
            self._host, "curl", "--silent", "--show-error", "--max-time", "30",
            "--cert", str(HOME / "cert.pem"), "--key", str(HOME / "key.pem"),
            "--capath", str(HOME / "certificates"), "--write-out", "\n%{http_code}",
            *options, self.url + path, check=False,
        )  # fmt: skip
        body, _, code = done.stdout.rpartition("\n")
        parsed = json.loads(body) if body.strip() else {}
        return Answer(status=int(code or 0), body=parsed, error=done.stderr.strip())

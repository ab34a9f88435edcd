"""One more deliv beside those of a running stack, with settings of its own.

It shares the stack's database and broker, as any instance does, and listens elsewhere.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from deliv_testbed import ports

from support.running_stack import Stack, until

TIMEOUT = 60


@dataclass(frozen=True, kw_only=True)
class Instance:
    stack: Stack
    port: int
    monitoring: int
    audit_log: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def audit(self) -> list[dict[str, Any]]:
        text = self.audit_log.read_text(encoding="ascii") if self.audit_log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def status(self, path: str) -> tuple[int, str]:
        """What the monitoring port answers; 0 while it does not listen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.monitoring, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def resident(self) -> int:
        """Memory in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text("ascii").splitlines()
        (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
        return int(kilobytes) * 1024


@contextmanager
def another_instance(
    stack: Stack, directory: Path, rest: dict[str, Any] | None = None, **changes: Any
) -> Iterator[Instance]:
    """`rest` is merged into the stack's section of that name, `changes` replace whole sections."""
    settings = yaml.safe_load(Path(stack.testbed["config"]).read_text(encoding="utf-8"))
    port, monitoring = ports.choose(2)
    log = directory / "audit.log"
    own = {"monitoring": f"127.0.0.1:{monitoring}", "audit": {"file": str(log)}}
    settings |= own | changes
    settings["rest"] |= {"listen": f"127.0.0.1:{port}"} | (rest or {})
    config = directory / "deliv.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "deliv.cli", "serve", "--config", config]
    with (directory / "deliv.log").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    instance = Instance(
        stack=stack, port=port, monitoring=monitoring, audit_log=log, process=process
    )
    try:
        until(lambda: instance.status("/live")[0] == 200, "it listens", TIMEOUT)
        yield instance
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
    try:
        assert process.wait(TIMEOUT) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(TIMEOUT)

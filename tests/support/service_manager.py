"""What systemd does for a service of Type=notify with WatchdogSec= and Restart=on-failure.

sd_notify(3): the service tells of its state on a datagram socket. One that is not heard of for as
long as the watchdog's time is aborted, and started again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PAUSE = 0.1  # seconds between two looks


class ServiceManager:
    """Runs one service. `heard` counts what it says, `ended_by_watchdog` its fatal silences."""

    def __init__(
        self, command: Sequence[str | Path], directory: Path, watchdog: float, log: Path
    ) -> None:
        self.heard: Counter[str] = Counter()
        self.ended_by_watchdog = 0
        self._command = command
        self._watchdog = watchdog
        self._log = log
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = directory / "notify"
        self._socket.bind(str(self._address))
        self._socket.settimeout(PAUSE)
        self._last = time.monotonic()
        self._leaving = threading.Event()
        self.process = self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self._leaving.set()
        self._tell(signal.SIGCONT)
        self._tell(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self._end()
            self._thread.join(30)

    def close(self) -> None:
        self.stop()
        self._socket.close()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(self._address),
            "WATCHDOG_USEC": str(round(self._watchdog * 1e6)),
        }
        self._last = time.monotonic()
        with self._log.open("ab") as output:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )

    def _watch(self) -> None:
        """Until the service is stopped and has nothing more to say."""
        while self._listen() or not self._leaving.is_set() or self.process.poll() is None:
            if self._is_silent() and not self._leaving.is_set():
                self._end()
                self.ended_by_watchdog += 1
                self.process = self._start()

    def _is_silent(self) -> bool:
        """The watchdog counts from READY=1 on: before, the start's own time would count."""
        silent = time.monotonic() - self._last > self._watchdog
        return silent and self.heard["READY=1"] > self.ended_by_watchdog

    def _listen(self) -> bool:
        try:
            message = self._socket.recv(4096).decode()
        except TimeoutError:
            return False
        self._last = time.monotonic()
        self.heard.update(message.splitlines())
        return True

    def _end(self) -> None:
        self._tell(signal.SIGKILL)
        self.process.wait(30)

    def _tell(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


@contextmanager
def managed(
    command: Sequence[str | Path], directory: Path, watchdog: float
) -> Iterator[ServiceManager]:
    manager = ServiceManager(command, directory, watchdog, directory / "service.log")
    try:
        yield manager
    finally:
        manager.close()

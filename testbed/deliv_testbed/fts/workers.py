"""The copying processes: one for each copy under way, kept a while for the next of that user."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509

from deliv_testbed.fts.settings import FtsSettings

log = logging.getLogger("deliv_testbed.fts")

COPIER = Path(__file__).with_name("copier.py")
PATH = "/usr/bin:/bin"
MIN_VALIDITY = 5400.0  # seconds; FTS's DelegCred::minValidityTime


class WorkerDied(Exception):
    """The process ended before its copy did; the message says how."""


class Worker:
    """A process of copier.py under one delegated proxy."""

    def __init__(self, process: asyncio.subprocess.Process, proxy: Path) -> None:
        self._process = process
        self.proxy = proxy
        self.at_work = False
        self.idle_since = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def work(self, order: Mapping[str, object]) -> AsyncIterator[dict[str, Any]]:
        """Its events up to `done` or `failed`; WorkerDied when there is no such end."""
        if self._process.stdin is None or self._process.stdout is None:
            raise WorkerDied("has no pipes")
        self.at_work = True
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        while line := await self._process.stdout.readline():
            event = json.loads(line)
            self.at_work = event["event"] not in ("done", "failed")
            yield event
            if not self.at_work:
                return
        raise WorkerDied(f"ended with {await self._process.wait()}")

    def kill(self) -> None:
        if self.alive:
            self._process.kill()

    async def end(self) -> None:
        self.kill()
        await self._process.wait()


class Workers:
    """At most `processes`, idle ones included."""

    def __init__(self, settings: FtsSettings) -> None:
        self._settings = settings
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._proxies = settings.state / "proxies"
        self._proxies.mkdir(mode=0o700, exist_ok=True)

    def proxy_file(self, dlg_id: str, proxy: str | None) -> Path | None:
        """The file to copy with: the one used before while it is valid for long enough.

        Else a new one of `proxy` (PEM: certificate, key, chain), what has been delegated by now.
        It is named by its content: a renewed proxy is a new file.
        """
        cached = list(self._proxies.glob(f"{dlg_id}-*.pem"))
        for path in cached:
            chain = x509.load_pem_x509_certificates(path.read_bytes())
            ends = min(one.not_valid_after_utc.timestamp() for one in chain)
            if ends - time.time() > MIN_VALIDITY:
                return path
        if proxy is None:
            return None
        for path in cached:
            path.unlink()
        return self.write_proxy(dlg_id, proxy)

    def write_proxy(self, dlg_id: str, proxy: str) -> Path:
        digest = hashlib.sha256(proxy.encode()).hexdigest()[:16]
        path = self._proxies / f"{dlg_id}-{digest}.pem"
        new = self._proxies / "new"
        new.touch(mode=0o600)
        new.write_text(proxy, encoding="ascii")
        return new.rename(path)

    async def acquire(self, proxy: Path) -> Worker:
        """A process that copies with this proxy."""
        worker = next((idle for idle in self._idle if idle.proxy == proxy and idle.alive), None)
        if worker is None:
            while self._idle and len(self._idle) + len(self._busy) >= self._settings.processes:
                await self._idle.pop(0).end()
            worker = Worker(await self._start(proxy), proxy)
        else:
            self._idle.remove(worker)
        self._busy.add(worker)
        return worker

    def release(self, worker: Worker) -> None:
        """Take a process back; one that was left in the middle of its work ends."""
        self._busy.discard(worker)
        if worker.at_work:
            worker.kill()
        elif worker.alive:
            worker.idle_since = time.monotonic()
            self._idle.append(worker)

    async def end_idle(self) -> None:
        """End those that had nothing to do for too long, and forget the dead."""
        limit = time.monotonic() - self._settings.idle
        ending = [idle for idle in self._idle if idle.idle_since < limit or not idle.alive]
        # All are taken out before the first wait, in which another might be given work.
        self._idle = [idle for idle in self._idle if idle not in ending]
        for worker in ending:
            await worker.end()

    async def close(self) -> None:
        for worker in [*self._idle, *self._busy]:
            await worker.end()
        self._idle.clear()

    async def _start(self, proxy: Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self._settings.python, "-I", COPIER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=self._settings.state,
            env={
                "PATH": PATH,
                "HOME": str(self._settings.state),
                "LANG": "C.UTF-8",
                "X509_USER_PROXY": str(proxy),
                "X509_CERT_DIR": str(self._settings.ca_directory),
            },
        )  # fmt: skip

"""Starts, stops and disturbs the testbed's processes, and only those.

Each part leads a session of its own and carries a mark in its environment, inherited by all it
starts. A part's record is its pid with the process's start time, so that a reused pid is never
taken for it. Signals go to the recorded process and to whatever carries the part's mark.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from deliv_testbed import accounts
from deliv_testbed.accounts import Account
from deliv_testbed.errors import TestbedError

MARK = "DELIV_TESTBED_PART"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PAUSE = 0.05
# In a shell that is not interactive, setsid starts the program in place: $! is its pid.
SPAWN = 'setsid "$@" >>"$0" 2>&1 </dev/null & echo $!'


@dataclass(frozen=True, kw_only=True)
class Program:
    """What runs as the part `name`, and for how many seconds `ready` may be false at first."""

    name: str
    command: tuple[str | Path, ...]
    ready: Callable[[], bool]
    environment: Mapping[str, str | Path]
    directory: Path
    deadline: float = 90.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """A line of /proc: `started` in clock ticks since boot, `state` the kernel's letter."""

    pid: int
    parent: int
    state: str
    started: int

    @property
    def ended(self) -> bool:
        return self.state in "ZX"


class Processes:
    """The processes of one testbed: records in DIR/run, logs in DIR/log."""

    def __init__(self, directory: Path, account: Account) -> None:
        self.directory = directory
        self.account = account
        self._abandoned = threading.Event()
        for path in (directory / "run", directory / "log", directory / "home", directory / "tmp"):
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in (directory / "log", directory / "home", directory / "tmp"):
            account.own(path)

    def environment(self, name: str, more: Mapping[str, str | Path]) -> dict[str, str]:
        """The environment of a part's process, with nothing of the caller's."""
        home, temporary = self.directory / "home", self.directory / "tmp"
        own = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": home, "TMPDIR": temporary, **more}
        return {MARK: self._mark(name)} | {key: str(value) for key, value in own.items()}

    def run(
        self,
        command: Iterable[str | Path],
        environment: Mapping[str, str | Path] = MappingProxyType({}),
        timeout: float = 60,
    ) -> str:
        """Run a command to its end as the testbed's user; TestbedError with its output."""
        words = [str(word) for word in command]
        try:
            done = self.account.run(
                words,
                env=self.environment(Path(words[0]).name, environment),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=True,
                umask=0o077,
            )
        except FileNotFoundError as error:
            raise TestbedError(f"{words[0]} is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise TestbedError(f"{words[0]} did not end within {timeout:g} s") from error
        except subprocess.CalledProcessError as error:
            raise TestbedError(
                f"{words[0]} failed ({error.returncode}):\n{error.stdout}"
            ) from error
        return done.stdout

    def start(self, program: Program) -> int:
        """Start a part and wait until it is ready; its pid."""
        if self.alive(program.name):
            raise TestbedError(f"{program.name} is running already")
        if self._abandoned.is_set():
            raise TestbedError(f"{program.name} was not started")
        self._signal(program.name, signal.SIGKILL)
        command = ["/bin/sh", "-c", SPAWN, self.log(program.name), *program.command]
        done = self.account.run(
            command,
            env=self.environment(program.name, program.environment),
            cwd=program.directory,
            stdout=subprocess.PIPE,
            check=True,
            timeout=10,
            umask=0o077,
        )
        pid = int(done.stdout)
        if process := _process(pid):
            text = json.dumps({"pid": pid, "started": process.started})
            self._record_file(program.name).write_text(text, encoding="utf-8")
        self._wait_until_ready(program)
        return pid

    def abandon(self) -> None:
        """Let every start that is under way, or still to come, fail at once."""
        self._abandoned.set()

    def stop(self, name: str, grace: float = 10.0) -> None:
        """Ask a part to end; what is left after `grace` seconds is killed."""
        record = self._record(name)
        if record and _is_same(record):
            os.kill(record.pid, signal.SIGTERM)
        self._signal(name, signal.SIGCONT)
        # All processes of the machine are looked through only when the part itself has gone.
        wait(lambda: not self.alive(name) and not self._members(name), grace)
        self.kill(name)

    def kill(self, name: str) -> None:
        """End a part and all it started, at once."""

        killed: set[Process] = set()

        def gone() -> bool:
            killed.update(self._signal(name, signal.SIGKILL))
            # The mark of a dying process is gone; one just forked was not signalled yet.
            return not any(map(_is_same, killed)) and not self._members(name)

        if not wait(gone, 10):
            raise TestbedError(f"{name} does not end: {list(filter(_is_same, killed))}")
        self._record_file(name).unlink(missing_ok=True)

    def freeze(self, name: str) -> None:
        """Suspend a part; returns when it has stopped."""
        self._switch(name, signal.SIGSTOP, "frozen")

    def thaw(self, name: str) -> None:
        """Resume a frozen part; returns when it runs."""
        self._switch(name, signal.SIGCONT, "running")

    def _switch(self, name: str, number: signal.Signals, state: str) -> None:
        if not self.alive(name):
            raise TestbedError(f"{name} is not running")

        def switched() -> bool:
            # One that is in vfork(2) stops only when its child, let go on, has left it.
            self._signal(name, signal.SIGCONT)
            self._signal(name, number)
            return wait(lambda: self.state(name) == state, 1)

        if not wait(switched, 10):
            raise TestbedError(f"{name} is {self.state(name)}, not {state}")

    def pid(self, name: str) -> int | None:
        """The pid of the part's first process while it runs."""
        record = self._record(name)
        return record.pid if record and _is_same(record) else None

    def alive(self, name: str) -> bool:
        return self.pid(name) is not None

    def state(self, name: str) -> str:
        """running, frozen, or not running."""
        pid = self.pid(name)
        process = _process(pid) if pid else None
        if process is None or process.ended:
            return "not running"
        return "frozen" if process.state in "Tt" else "running"

    def names(self) -> list[str]:
        """The parts that have a record or a process, crashed ones included."""
        prefix = self._mark("")
        marked = {mark.removeprefix(prefix) for _, mark in _marks() if mark.startswith(prefix)}
        return sorted({path.stem for path in self.directory.glob("run/*.json")} | marked)

    def _wait_until_ready(self, program: Program) -> None:
        ready = False  # looked at once: busy with its start, it may be slow to say so again

        def decided() -> bool:
            nonlocal ready
            ready = program.ready()
            return ready or not self.alive(program.name) or self._abandoned.is_set()

        wait(decided, program.deadline)
        if ready and self.alive(program.name):
            return
        what = "was not ready in time" if self.alive(program.name) else "ended at once"
        raise TestbedError(f"{program.name} {what}:\n{tail(self.log(program.name))}")

    def log(self, name: str) -> Path:
        return self.directory / "log" / f"{name}.log"

    def _signal(self, name: str, number: signal.Signals) -> list[Process]:
        """Send a signal to all processes of a part; returns those."""
        members = self._members(name)
        for process in members:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue
        return members

    def _members(self, name: str) -> list[Process]:
        """The part's running processes: the marked ones and all below them."""
        found = {pid for pid, mark in _marks() if mark == self._mark(name)}
        if pid := self.pid(name):
            found.add(pid)
        processes = list(_processes())
        before = -1
        while len(found) > before:
            before = len(found)
            found |= {process.pid for process in processes if process.parent in found}
        return [process for process in processes if process.pid in found and not process.ended]

    def _mark(self, name: str) -> str:
        return f"{self.directory}:{name}"

    def _record_file(self, name: str) -> Path:
        return self.directory / "run" / f"{name}.json"

    def _record(self, name: str) -> Process | None:
        try:
            record = json.loads(self._record_file(name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return Process(pid=record["pid"], parent=0, state="?", started=record["started"])


@contextmanager
def private(name: str) -> Iterator[Processes]:
    """Processes in a temporary directory of their own, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix=f"deliv-{name}-") as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)
        processes = Processes(directory, accounts.unprivileged(directory))
        try:
            yield processes
        finally:
            for part in processes.names():
                processes.kill(part)


def tail(path: Path, lines: int = 20) -> str:
    """The end of a log, for a message."""
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` came true within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def _is_same(record: Process) -> bool:
    process = _process(record.pid)
    return process is not None and not process.ended and process.started == record.started


def _process(pid: int) -> Process | None:
    """proc(5): the fields after the name, which is in the last pair of parentheses."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return Process(pid=pid, state=fields[0], parent=int(fields[1]), started=int(fields[19]))


def _processes() -> Iterator[Process]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (process := _process(int(entry))):
            yield process


def _marks() -> Iterator[tuple[int, str]]:
    """(pid, mark) of every marked process that we may look at."""
    prefix = f"{MARK}=".encode()
    for process in _processes():
        try:
            variables = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        for variable in variables:
            if variable.startswith(prefix):
                yield process.pid, os.fsdecode(variable.removeprefix(prefix))

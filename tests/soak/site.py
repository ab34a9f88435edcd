"""What the soak disturbs: a stack, how it is commanded, and the jobs that it has accepted."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from deliv_testbed.layout import Layout
from support.running_stack import Stack

STARTS = 3  # libfaketime 0.9.10 can hang a program with threads as it starts: seen once in 30


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A job that deliv answered 202 for, and what must become of it.

    `error_class` is that of an ERROR, where it matters. `content` is that of a file which lay at
    its destination before it; None: there was none.
    """

    job_id: str
    user: str
    product: str
    size: int
    file: Path
    status: str
    error_class: str | None = None
    content: bytes | None = None


@dataclass
class Site:
    stack: Stack
    urls: list[str]
    accepted: list[Accepted] = field(default_factory=list)
    # One at a time: the local stack refuses a command beside another.
    _commands: threading.Lock = field(default_factory=threading.Lock)

    @property
    def layout(self) -> Layout:
        return Layout(directory=self.stack.directory)

    def command(self, *arguments: str) -> None:
        with self._commands:
            self.stack.command(*arguments)

    def start(self, part: str) -> None:
        for tries_left in reversed(range(STARTS)):
            try:
                self.command("start", part)
                return
            except AssertionError:
                if not tries_left:
                    raise
                self.command("kill", part)

    def stop(self, part: str) -> None:
        with self._commands:
            self.stack.stop(part)

"""One run of a command for callers: how it ends, whatever happens, and what it says then."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

from deliv.client import show
from deliv.client.api import Client
from deliv.client.credentials import find_ca, find_credential
from deliv.client.errors import ClientError, SetupError, StillRunning, Unavailable, Unreachable

Options = argparse.Namespace

UNWRITTEN, INTERRUPTED, CLOSED_PIPE, TERMINATED = 8, 130, 141, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command like SIGINT."""


class _Output(Console):
    """Lets CommandRun.run handle a closed pipe; rich would end the process with exit code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class CommandRun:
    """One run of a command: its options, its two outputs, what is known of the job so far."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.out = _Output(highlight=False, soft_wrap=True)
        self.err = _Output(stderr=True, highlight=False, soft_wrap=True)
        self.job_id: str | None = getattr(options, "job", None)
        self.key: str | None = None
        self.resume: str | None = None  # what is done, and how to go on
        self.list_begun = False

    def run(self, action: Callable[[CommandRun], int]) -> int:
        """The exit code; every error is reported in one sentence, or as JSON."""
        if sys.stdout is None:
            self.say("the output can't be written: it is closed; nothing was asked of deliv")
            return UNWRITTEN
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # for what its encoding lacks

        def terminate(number: int, frame: FrameType | None) -> None:
            raise Terminated

        before = signal.signal(signal.SIGTERM, terminate)
        try:
            try:
                return action(self)
            except ClientError as error:
                repeatable = isinstance(error, Unreachable | Unavailable | StillRunning)
                self._fail(error.kind, str(error), repeatable=repeatable)
                return error.exit_code
            except Terminated:
                self._fail("interrupted", "terminated", repeatable=True)
                return TERMINATED
            except KeyboardInterrupt:
                self._fail("interrupted", "interrupted", repeatable=True)
                return INTERRUPTED
        except OSError as error:  # of the outputs: of the network it would be a ClientError
            closed = isinstance(error, BrokenPipeError)
            with open(os.devnull, "w") as nowhere:  # for what is still buffered
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            if not closed or self.key is not None:  # the reader may miss the job's id
                job = f"; job {self.job_id}" if self.job_id else ""
                key = f"; idempotency key {self.key}" if self.key is not None else ""
                with suppress(OSError):
                    self.say(f"the output can't be written: {error.strerror or error}{job}{key}")
            return CLOSED_PIPE if closed else UNWRITTEN
        finally:
            signal.signal(signal.SIGTERM, before)

    def client(self) -> Client:
        options = self.options
        url = options.url or os.environ.get("DELIV_URL")
        if not url:
            raise SetupError("where is deliv? name it with --url or DELIV_URL")
        credential = find_credential(options.cert, options.key)
        return Client(
            url,
            credential.cert,
            credential.key,
            find_ca(options.ca),
            patience=options.patience,
            notice=self.say,
        )

    def say(self, line: str, *hints: str) -> None:
        """For people, on the error output; each hint on a line of its own."""
        self.err.print(Text(f"deliv: {show.printable(line)}"))
        for hint in hints:
            self.err.print(Text(f"  {show.printable(hint)}"))

    def print_json(self, document: dict[str, Any]) -> None:
        """As the rest of the object that `print_json_list` has begun, if it has."""
        text = json.dumps(document)
        print(f"], {text[1:]}" if self.list_begun else text, flush=True)

    def print_json_list(self, name: str, items: Iterator[dict[str, Any]]) -> None:
        """The first field of an object, item by item. `print_json` ends it, also when it fails."""
        first = list(islice(items, 1))  # where that fails nothing is printed
        sys.stdout.write(f'{{"{name}": [')
        self.list_begun = True
        for place, item in enumerate(chain(first, items)):
            sys.stdout.write((",\n" if place else "") + json.dumps(item))

    def _fail(self, kind: str, msg: str, *, repeatable: bool) -> None:
        """Say why there is no result, and, if the call can be repeated, what is needed for that."""
        unsure = repeatable and self.key is not None and self.job_id is None
        if self.options.json:
            key = {"idempotency_key": self.key} if unsure else {}
            msg = f"{msg}; {self.resume}" if repeatable and self.resume else msg
            document = {"error": True, "kind": kind, "msg": msg, "job_id": self.job_id}
            self.print_json({**document, **key})
            return
        hints = [self.resume] if repeatable and self.resume else []
        if repeatable and getattr(self.options, "wait", False) and self.job_id:
            hints.append(f"look again with: deliv status --wait {self.job_id}")
        if unsure:
            hints.append(f"to repeat it safely: --idempotency-key {self.key}")
        self.say(msg, *hints)

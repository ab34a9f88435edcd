"""Up, deliver, show, down: `python -m deliv.testbed.demo [--dir DIR]`.

Exit code 0 only if everything that was promised was kept. A stack that was up before stays up.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from deliv.testbed import command
from deliv.testbed.demo.run import Testbed, run, say
from deliv.testbed.layout import Layout

STARTING = "Bringing the local stack up: MariaDB, RabbitMQ, GridFTP, stager, FTS, deliv ..."


def main() -> int:
    parser = argparse.ArgumentParser(prog="deliv testbed demo", description="deliver real files")
    parser.add_argument("--dir", type=Path, default=Path(command.DEFAULT_DIRECTORY))
    directory = parser.parse_args().dir.resolve()
    console, started = Console(), time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    was_up = testbed("status", directory, quiet=True) == 0
    try:
        with console.status(STARTING):
            if not console.is_terminal:
                say(console, STARTING)
            if testbed("up", directory):
                return 1
        description = json.loads(Layout(directory=directory).description.read_text("utf-8"))
        kept = run(description, console)
        tell_places(description, directory, console)
    finally:
        if not was_up:
            testbed("down", directory)
    say(console, f"{'Done' if kept else 'FAILED'} after {time.monotonic() - started:.0f} s.")
    return 0 if kept else 1


def testbed(name: str, directory: Path, *, quiet: bool = False) -> int:
    """One sub-command of `deliv testbed`; its exit code."""
    parser = argparse.ArgumentParser(prog="deliv")
    command.add_parser(parser.add_subparsers())
    options = parser.parse_args(["testbed", name, "--dir", str(directory)])
    unheard = io.StringIO()
    silence = contextlib.redirect_stdout(unheard), contextlib.redirect_stderr(unheard)
    with contextlib.ExitStack() as stack:
        for redirection in silence if quiet else ():
            stack.enter_context(redirection)
        return int(options.run(options))


def tell_places(description: Testbed, directory: Path, console: Console) -> None:
    places = {
        "REST": description["url"],
        "metrics": f"{description['monitoring_url']}/metrics",
        "stack": Layout(directory=directory).description,
        "config": description["config"],
        "logs": directory / "log",
        "archive": description["gridftp"]["archive"]["root"],
        "delivered": description["gridftp"]["destination"]["root"],
        "certificates": description["ca_dir"],
    }
    say(console, "Where everything is (files stay until the next start; `make up` starts it):\n")
    for name, place in places.items():
        say(console, f"    {name:<13} {place}")
    say(console, "")


if __name__ == "__main__":
    sys.exit(main())

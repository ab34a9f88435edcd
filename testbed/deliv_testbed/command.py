"""`deliv testbed up | down | status | demo | kill | start | freeze | thaw`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deliv.client import ClientError
from deliv_testbed import control
from deliv_testbed.demo.show import show
from deliv_testbed.errors import TestbedError
from deliv_testbed.layout import DELIV, DUMMIES, SERVERS, Layout, Request
from deliv_testbed.stack import Stack

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
DEFAULT_DIRECTORY = ".run"


def add_parser(subparsers: Subparsers) -> None:
    """Add `testbed` and its sub-commands; each sets `run`, which returns the exit code."""
    parser = subparsers.add_parser("testbed", help="the local stack for trying and testing")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    up = _add(commands, "up", _up, "start the stack and wait until it is ready")
    up.add_argument("--instances", type=_count, default=1, metavar="N", help="of deliv (1)")
    up.add_argument(
        "--without",
        nargs="+",
        action="extend",
        default=[],
        metavar="PART",
        help=f"leave out: {', '.join((*SERVERS, *DUMMIES, DELIV))} or {DELIV}@N; "
        "`start` adds it later",
    )
    up.add_argument(
        "--fts-servers", type=_count, default=1, metavar="N", help="dummy FTS3 servers (1)"
    )
    up.add_argument("--fts", metavar="URL", help="an existing FTS3 in place of the dummy")
    up.add_argument(
        "--fts-ca", type=Path, metavar="DIR", help="the CAs that FTS3's certificate comes from"
    )
    up.add_argument(
        "--clocks",
        nargs="+",
        action="extend",
        default=[],
        metavar="PART",
        help="give these parts clocks of their own: DIR/clocks/PART has the seconds they are ahead",
    )
    _add(commands, "down", _down, "stop everything; data and logs stay")
    _add(commands, "demo", _demo, "up, deliver real files, compare the checksums, down")
    _add(commands, "status", _status, "what runs; exit code 1 when a wanted part doesn't")
    for name, action, text in (
        ("kill", Stack.kill, "end a part at once, as a crash would"),
        ("start", Stack.start, "start a part that was left out or killed"),
        ("freeze", Stack.freeze, "suspend a part: it answers nothing and closes no connection"),
        ("thaw", Stack.thaw, "resume a frozen part"),
    ):
        _add(commands, name, _on_part(action), text).add_argument("part", metavar="PART")


def _add(
    commands: Subparsers, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument(
        "--dir", type=Path, default=Path(DEFAULT_DIRECTORY), help="the stack's directory (.run)"
    )
    parser.set_defaults(run=lambda options: _guarded(run, options))
    return parser


def _count(text: str) -> int:
    if not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError("1 to 64")
    return int(text)


def _guarded(run: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    os.umask(0o022)  # the unprivileged user reads configurations that root writes
    try:
        run(options)
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    return 0


def _up(options: argparse.Namespace) -> None:
    started, where = time.monotonic(), _where(options)
    request = Request(
        instances=options.instances,
        fts_servers=options.fts_servers,
        without=tuple(options.without),
        fts_url=options.fts,
        fts_ca=str(options.fts_ca.resolve()) if options.fts_ca else None,
        clocks=tuple(options.clocks),
    )
    state = "up" if control.up(where, request) else "already up"
    print(f"{state} after {time.monotonic() - started:.1f} s: {where.description}")
    if request.fts_url:
        print(f"{request.fts_url} must trust the CA {where.ca_file}")
    if not request.without:
        _print_first_steps(where)


def _print_first_steps(where: Layout) -> None:
    """The commands to paste for a first delivery, then where all else is."""
    testbed = json.loads(where.description.read_text(encoding="utf-8"))
    command = shlex.quote(str(Path(sys.executable).with_name("deliv")))
    destination = shlex.quote(f"{testbed['gridftp']['destination']['url']}/alice")
    environment = {
        "DELIV_URL": testbed["url"],
        "X509_USER_PROXY": testbed["users"]["alice"]["proxy"],
        "X509_CERT_DIR": testbed["ca_dir"],
    }
    print(f"\ndeliv answers at {testbed['url']}. To have a first product delivered, as alice:\n")
    for name, value in environment.items():
        print(f"    export {name}={shlex.quote(value)}")
    print(f"    {command} submit 005 {destination} --wait")
    print(
        f"\nOther users, products and places: {where.description}; logs: {where.directory / 'log'}"
    )
    print(f"To stop it: {command} testbed down --dir {shlex.quote(str(where.directory))}")


def _down(options: argparse.Namespace) -> None:
    stopped = control.down(_where(options))
    print(f"stopped: {', '.join(stopped) or 'nothing was running'}")


def _demo(options: argparse.Namespace) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the stack is taken down then, too
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        correct = show(_where(options))
    except ClientError as error:
        raise TestbedError(str(error)) from error
    if not correct:
        raise TestbedError("not everything was delivered as expected")


def _status(options: argparse.Namespace) -> None:
    where = _where(options)
    with control.stack(where) as stack:
        missing = []
        for part in stack.parts.names:
            pid, state = stack.processes.pid(part), stack.processes.state(part)
            wanted = stack.parts.wanted(part)
            print(f"{part:20} {pid or '-':>8} {state if pid or wanted else 'left out'}")
            if wanted and state != "running":
                missing.append(part)
    if missing:
        raise TestbedError(f"not running: {', '.join(missing)}")


def _on_part(action: Callable[[Stack, str], None]) -> Callable[[argparse.Namespace], None]:
    def run(options: argparse.Namespace) -> None:
        with control.stack(_where(options)) as stack:
            action(stack, options.part)

    return run


def _where(options: argparse.Namespace) -> Layout:
    return Layout(directory=options.dir.resolve())

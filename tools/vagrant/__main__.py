"""The command line: `python -m tools.vagrant COMMAND`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from tools.hosts import base, runs
from tools.hosts.errors import HostsError
from tools.vagrant import box, lab


def main() -> int:
    given = _parser().parse_args()
    try:
        if os.geteuid():
            raise HostsError("only root can make machines")
        given.action(given)
    except HostsError as error:
        print(f"vagrant: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.vagrant", description=__doc__)
    parser.add_argument("--run", default="vagrant", help="which run of tools.hosts")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("box", help="pack a suite's box, where missing; print its path")
    command.add_argument("suite", choices=base.SUITES)
    command.set_defaults(action=lambda given: print(box.pack(given.suite)))
    command = commands.add_parser("up", help="`vagrant up`, without changes to this machine")
    command.add_argument("suite", choices=base.SUITES)
    command.set_defaults(action=lambda given: lab.up(given.run, given.suite))
    command = commands.add_parser("do", help="run any command of Vagrant's on the lab")
    command.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    command.set_defaults(action=lambda given: lab.vagrant(runs.load(given.run), *given.arguments))
    command = commands.add_parser("down", help="remove the lab and its run of hosts")
    command.set_defaults(action=lambda given: lab.down(given.run))
    return parser


if __name__ == "__main__":
    sys.exit(main())

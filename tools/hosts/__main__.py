"""The command line: `python -m tools.hosts COMMAND`."""

from __future__ import annotations

import argparse
import os
import sys

from tools.hosts import base, cgroups, guest, lifecycle, network, runs
from tools.hosts.errors import HostsError


def main() -> int:
    arguments = _parser().parse_args()
    try:
        if os.geteuid():
            raise HostsError("only root can make hosts")
        arguments.action(arguments)
    except HostsError as error:
        print(f"hosts: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.hosts", description=__doc__)
    parser.add_argument(
        "--run",
        default=os.environ.get("DELIV_HOSTS_RUN", "dev"),
        help="which run of hosts (DELIV_HOSTS_RUN, else dev)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("base", help="build a suite's Debian root, where missing")
    command.add_argument("suite", choices=base.SUITES)
    command.set_defaults(action=lambda given: print(base.ensure(given.suite)))
    command = commands.add_parser("up", help="boot hosts of a suite")
    command.add_argument("suite", choices=base.SUITES)
    command.add_argument("names", nargs="+", metavar="NAME")
    command.add_argument(
        "--client", action="append", default=[], help="a host outside the inventory"
    )
    command.set_defaults(action=_up)
    command = commands.add_parser("down", help="remove all hosts of the run")
    command.set_defaults(action=lambda given: lifecycle.down(given.run))
    command = commands.add_parser("exec", help="run a command in a host, as root")
    command.add_argument("name")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    command.set_defaults(action=_exec)
    command = commands.add_parser("in", help="run a command in the hub, which reaches the hosts")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    command.set_defaults(action=_in)
    command = commands.add_parser("inventory", help="print the path of Ansible's inventory")
    command.set_defaults(action=lambda given: print(runs.load(given.run).inventory))
    command = commands.add_parser("list", help="the hosts, their addresses and states")
    command.set_defaults(action=_list)
    command = commands.add_parser("link", help="set a host's network link up or down")
    command.add_argument("name")
    command.add_argument("state", choices=("up", "down"))
    command.set_defaults(action=_link)
    command = commands.add_parser("reboot", help="reboot a host and wait until it is up")
    command.add_argument("name")
    command.set_defaults(action=lambda given: guest.reboot(runs.load(given.run).host(given.name)))
    return parser


def _up(given: argparse.Namespace) -> None:
    _print_hosts(lifecycle.up(given.run, given.suite, given.names, given.client))


def _list(given: argparse.Namespace) -> None:
    _print_hosts(runs.load(given.run))


def _print_hosts(run: runs.Run) -> None:
    for host in run.hosts:
        print(f"{host.name:15} {host.address:15} {guest.state(host)}")


def _exec(given: argparse.Namespace) -> None:
    host = runs.load(given.run).host(given.name)
    _exec_program(guest.enter_command(host, given.command))


def _in(given: argparse.Namespace) -> None:
    run = runs.load(given.run)
    cgroups.enter(f"{run.prefix}commands")  # so that `down` ends what stays behind
    _exec_program(["ip", "netns", "exec", run.hub, *given.command])


def _exec_program(command: list[str]) -> None:
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606 - the command that was asked for


def _link(given: argparse.Namespace) -> None:
    run = runs.load(given.run)
    network.set_link(run, run.host(given.name), given.state)


if __name__ == "__main__":
    sys.exit(main())

"""The command `deliv`. What a command needs is imported when it is asked for, so that an install
for callers only has no need of the server's libraries.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from deliv import __version__
from deliv.client.commands import add_parsers

Options = argparse.Namespace
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class ExtraMissing(Exception):
    """A library is not installed; the message names the extra that brings it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = _parser(asked_for=arguments[0] if arguments else "").parse_args(arguments)
        return int(options.run(options))
    except ExtraMissing as error:
        print(f"deliv: {error}", file=sys.stderr)
        return 2


def _parser(asked_for: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deliv",
        description="Delivers archived products to GridFTP directories.",
        epilog="deliv COMMAND --help tells more.",
    )
    parser.add_argument("--version", action="version", version=f"deliv {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_parsers(commands)
    serve = _add(commands, "serve", _serve, "run the service")
    serve.add_argument(
        "--instance", type=int, default=0, metavar="N", help="added to the monitoring port"
    )
    serve.add_argument("--check", action="store_true", help="check config and dependencies, end")
    _add(commands, "migrate", _migrate, "bring the database's schema up to date")
    _add_check(commands, asked_for)
    _add_queue(commands, asked_for)
    _add_validate(commands)
    _add_policy(commands, asked_for)
    _add_plugins(commands, asked_for)
    return parser


def _add(
    commands: Subparsers, name: str, run: Callable[[Options], int], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument(
        "--config", metavar="FILE", help="default: DELIV_CONFIG, else /etc/deliv/deliv.yaml"
    )
    parser.set_defaults(run=run)
    return parser


def _add_check(commands: Subparsers, asked_for: str) -> None:
    text = "check that all the data fits together, at the stager and at FTS too"
    if asked_for == "check":
        check = _load("deliv.commands.check.command", "server")
        check.add_arguments(_add(commands, "check", check.command, text))
    else:
        commands.add_parser("check", help=text)


def _add_queue(commands: Subparsers, asked_for: str) -> None:
    text = "what waits in RabbitMQ, and what could not be handled"
    if asked_for == "queue":
        queues = _load("deliv.commands.queue", "server")
        queues.add_arguments(_add(commands, "queue", queues.command, text))
    else:
        commands.add_parser("queue", help=text)


def _add_validate(commands: Subparsers) -> None:
    text = "read a configuration, a policy or an LSC file, no more; say what is wrong with it"
    validate = commands.add_parser("validate", help=text, description=text)
    validate.add_argument("kind", choices=("config", "policy", "lsc"))
    validate.add_argument("file", metavar="FILE", type=Path)
    validate.set_defaults(run=_validate)


def _add_policy(commands: Subparsers, asked_for: str) -> None:
    policy = commands.add_parser("policy", help="what the policy says, and why")
    if asked_for == "policy":
        explaining = _load("deliv.commands.policy", "server")
        below = policy.add_subparsers(metavar="COMMAND", required=True)
        text = "whether a DN may do something, and which rule decides"
        explaining.add_arguments(_add(below, "explain", explaining.command, text))


def _add_plugins(commands: Subparsers, asked_for: str) -> None:
    """Commands of other distributions: entry points that add their own parser."""
    for command in entry_points(group="deliv.commands"):
        if asked_for == command.name:
            _load(command.module, "server")
            command.load()(commands)
        else:
            summary = command.dist.metadata["Summary"] if command.dist else None
            commands.add_parser(command.name, help=summary)


def _serve(options: Options) -> int:
    return int(_load("deliv.runtime", "server").command(options))


def _migrate(options: Options) -> int:
    config, errors = _load("deliv.config", "server"), _load("deliv.errors", "server")
    migrations = _load("deliv.store.migrations", "server")
    try:
        settings = config.load(config.find(options.config))
        applied = asyncio.run(migrations.migrate(settings.database))
    except errors.DelivError as error:
        print(f"deliv: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")
    return 0


def _validate(options: Options) -> int:
    """Without the files that a configuration names, so before they are there."""
    errors = _load("deliv.errors", "server")
    try:
        if options.kind == "config":
            _load("deliv.config", "server").load(options.file)
        elif options.kind == "lsc":
            _load("deliv.identity.voms.vomsdir", "server").load(options.file)
        else:
            _load("deliv.identity.policy", "server").Policy.load(options.file)
    except errors.DelivError as error:
        print(f"deliv: {error}", file=sys.stderr)
        return 1
    return 0


def _load(module: str, extra: str) -> ModuleType:
    """Import a module of ours; ExtraMissing when a library it needs is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("deliv"):
            raise
        raise ExtraMissing(
            f"this command needs {error.name}, which is not installed: "
            f"pip install '.[{extra}]' from the top of a checkout of deliv"
        ) from error


if __name__ == "__main__":
    sys.exit(main())

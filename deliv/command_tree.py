"""The tree of commands of `deliv`.

A command's module is imported when it is asked for, so that an install for callers only has no
need of the server's libraries.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import MappingProxyType, ModuleType

from deliv import __version__
from deliv.client.arguments import Subparsers, add_parsers

# Each is a module with `add_arguments(parser)` and `command(options)`, which gives the exit code.
COMMANDS = MappingProxyType(
    {
        "serve": ("deliv.commands.serve", "run the service"),
        "migrate": ("deliv.commands.migrate", "bring the database's schema up to date"),
        "check": (
            "deliv.commands.check.command",
            "check that all the data fits together, at the stager and at FTS too",
        ),
        "queue": (
            "deliv.commands.queue",
            "what waits in RabbitMQ, and what could not be handled",
        ),
        "validate": (
            "deliv.commands.validate",
            "read a configuration, a policy or an LSC file, no more; say what is wrong with it",
        ),
        "policy": ("deliv.commands.policy", "what the policy says, and why"),
    }
)


class ExtraMissing(Exception):
    """A library is not installed; the message names the extra that brings it."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
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
    for name, (module, text) in COMMANDS.items():
        below = commands.add_parser(name, help=text, description=text)
        if name == asked_for:
            command = _load(module)
            below.set_defaults(run=command.command)
            command.add_arguments(below)
    if asked_for not in commands.choices:
        _add_plugins(commands, asked_for)
    return parser


def _add_plugins(commands: Subparsers, asked_for: str) -> None:
    """Commands of other distributions: entry points that add their own parser.

    To find them takes a fifth of the time of a call to deliv.
    """
    from importlib.metadata import entry_points

    for plugin in entry_points(group="deliv.commands"):
        if plugin.name == asked_for:
            _load(plugin.module)
            plugin.load()(commands)
        else:
            summary = plugin.dist.metadata["Summary"] if plugin.dist else None
            commands.add_parser(plugin.name, help=summary)


def _load(module: str) -> ModuleType:
    """Import a module of ours; ExtraMissing when a library it needs is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("deliv"):
            raise
        raise ExtraMissing(
            f"this command needs {error.name}, which is not installed: "
            "pip install '.[server]' from the top of a checkout of deliv"
        ) from error

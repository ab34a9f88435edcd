"""The command `deliv migrate`: bring the database's schema up to date."""

from __future__ import annotations

import argparse
import asyncio
import sys

from deliv import config
from deliv.errors import DelivError
from deliv.store import migrations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config.add_option(parser)


def command(options: argparse.Namespace) -> int:
    """Exit code 1 when a migration fails or is refused."""
    try:
        settings = config.load(config.find(options.config))
        applied = asyncio.run(migrations.migrate(settings.database))
    except DelivError as error:
        print(f"deliv: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")
    return 0

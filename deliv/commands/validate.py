"""The command `deliv validate`: is a file that is to be put in place well-formed?

Without the files that a configuration names, so it can be asked before they are there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deliv import config
from deliv.errors import DelivError
from deliv.identity.policy import Policy
from deliv.identity.voms import vomsdir

LOADERS = {"config": config.load, "policy": Policy.load, "lsc": vomsdir.load}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=LOADERS)
    parser.add_argument("file", metavar="FILE", type=Path)


def command(options: argparse.Namespace) -> int:
    """Exit code 1 when something is wrong with the file; says what."""
    try:
        LOADERS[options.kind](options.file)
    except DelivError as error:
        print(f"deliv: {error}", file=sys.stderr)
        return 1
    return 0

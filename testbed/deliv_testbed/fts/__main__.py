"""python -m deliv_testbed.fts --config FILE"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sqlite3
import sys
from pathlib import Path

from deliv.errors import ConfigError
from deliv_testbed.fts.server import serve
from deliv_testbed.fts.settings import load


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deliv_testbed.fts", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file; see settings.py")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
    try:
        asyncio.run(serve(load(options.config)))
    except (ConfigError, OSError, sqlite3.Error) as error:
        print(f"the dummy FTS can't run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

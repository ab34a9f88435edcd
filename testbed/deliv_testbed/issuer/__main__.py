"""python -m deliv_testbed.issuer --config FILE"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from deliv.errors import ConfigError
from deliv_testbed.issuer.server import serve
from deliv_testbed.issuer.settings import load


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deliv_testbed.issuer", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file; see settings.py")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(load(options.config)))
    except (ConfigError, OSError) as error:
        print(f"the issuer can't run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

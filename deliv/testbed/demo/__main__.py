"""`python -m deliv.testbed.demo [--dir DIR]`: exit code 0 only if all was kept as promised."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from deliv.client import ClientError
from deliv.testbed.demo.show import show
from deliv.testbed.errors import TestbedError
from deliv.testbed.layout import Layout


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description="Deliver real files, look, compare.")
    parser.add_argument("--dir", type=Path, default=Path(".run"), help="the stack's directory")
    directory = parser.parse_args().dir.resolve()
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the stack is taken down then, too
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    os.umask(0o022)
    try:
        return 0 if show(Layout(directory=directory)) else 1
    except (TestbedError, ClientError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""Speed and memory, as ratios of what was measured in one run.

make bench
"""

from __future__ import annotations

import argparse
import itertools
import sys

from bench import ended, rests, service, shares, staging, tables, trees


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when a ratio is more than it may be."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.parse_args(arguments)
    broken = 0
    parts = (tables, ended, rests, service, shares, staging, trees)
    for figure in itertools.chain.from_iterable(part.figures() for part in parts):
        print(figure, flush=True)
        broken += not figure.held
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

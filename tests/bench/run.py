"""Speed and memory, as ratios of what was measured in one run.

make bench
"""

from __future__ import annotations

import argparse
import itertools
import sys

from bench import ended, service, tables


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when a ratio is more than it may be."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.parse_args(arguments)
    broken = 0
    for figure in itertools.chain(tables.figures(), ended.figures(), service.figures()):
        print(figure, flush=True)
        broken += not figure.held
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

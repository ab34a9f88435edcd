"""The command `deliv`: where the program begins.

The commands are imported in `main`: it takes long enough for Ctrl-C to come meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    try:
        from deliv import command_tree

        return command_tree.run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # where the command itself has nothing to say of it
        print("deliv: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

"""A view of the file system in which an ordinary user reaches what lies in closed directories.

When root works in /root or in a directory of mktemp, the user that the testbed drops to can't get
there. A process with a mount namespace of its own can: in it, each closed directory is covered by
an empty one which holds nothing but the way to what the process needs, under the same paths.
Nothing changes for anybody else.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

STAGING = Path("/run")  # covered for a moment, in the namespace only


def closed_above(path: Path, can_enter: Callable[[Path], bool]) -> Path | None:
    """The topmost directory above `path` that can't be entered."""
    above = reversed(path.parents)
    return next((parent for parent in above if parent.is_dir() and not can_enter(parent)), None)


def command(closed: Iterable[Path], shown: Iterable[Path], uid: int, gid: int) -> tuple[str, ...]:
    """What to put before a command, to run it in the view and as that user."""
    script = [
        "set -e",
        "here=$(pwd) mask=$(umask)",
        "umask 022",
        f"mount -t tmpfs -o mode=755 tmpfs {STAGING}",
        *_stage(apart := _apart(shown)),
        *(f"mount -t tmpfs -o mode=755 tmpfs {_quoted(path)}" for path in _apart(closed)),
        *_unstage(apart),
        f"umount {STAGING}",
        'cd "$here"; umask "$mask"',
        f'exec setpriv --reuid={uid} --regid={gid} --clear-groups -- "$@"',
    ]
    start = ("unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c")
    return (*start, "\n".join(script), "sh")


def _stage(shown: list[Path]) -> list[str]:
    places = (STAGING / str(number) for number in range(len(shown)))
    pairs = zip(shown, places, strict=True)
    return [f"mkdir {place}; mount --rbind {_quoted(path)} {place}" for path, place in pairs]


def _unstage(shown: list[Path]) -> list[str]:
    return [
        f"mkdir -p {_quoted(path)}; mount --move {STAGING / str(number)} {_quoted(path)}"
        for number, path in enumerate(shown)
    ]


def _apart(paths: Iterable[Path]) -> list[Path]:
    """Without those that lie in another one."""
    kept = set(paths)
    return sorted(path for path in kept if kept.isdisjoint(path.parents))


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))

"""Products of many files on demand, `tree-<FILES>-<BYTES>`: a directory with nested ones in it.

With a third number, `tree-<FILES>-<BYTES>-<LARGE>`, each hundredth file has LARGE bytes. Names and
content follow from a file's number, 1 to FILES; of 3 bytes or more no two are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from deliv_testbed import synthetic

MOST_FILES = 10**6
LARGE_EVERY = 100


@dataclass(frozen=True, kw_only=True)
class Tree:
    """`files` of `size` bytes each, of which each hundredth may have `large` bytes instead."""

    files: int
    size: int
    large: int | None = None

    @property
    def names(self) -> Iterator[str]:
        """In the order of their numbers, relative to the product's directory."""
        return (name(number) for number in range(1, self.files + 1))

    @property
    def total(self) -> int:
        """The bytes of all files."""
        large = 0 if self.large is None else self.files // LARGE_EVERY
        return (self.files - large) * self.size + large * (self.large or 0)

    def chunks(self, number: int) -> Iterator[bytes]:
        """The content of a file, in pieces of at most 1 MiB."""
        stamp = number.to_bytes(8, "little")  # its first bytes differ in small files, too
        size = self.size
        if self.large is not None and number % LARGE_EVERY == 0:
            size = self.large
        for position, chunk in enumerate(synthetic.chunks(size)):
            yield stamp[: len(chunk)] + chunk[8:] if position == 0 else chunk


def tree_of(product_id: str) -> Tree | None:
    """The product that such an id names; None for any other id."""
    number = r"(0|[1-9]\d{0,12})"
    match = re.fullmatch(rf"tree-([1-9]\d{{0,6}})-{number}(?:-{number})?", product_id, re.ASCII)
    if not match:
        return None
    files, size, large = int(match[1]), int(match[2]), None if match[3] is None else int(match[3])
    if files > MOST_FILES or max(size, large or 0) > synthetic.MAXIMUM:
        return None
    return Tree(files=files, size=size, large=large)


def name(number: int) -> str:
    """Of a file: a hundred directories of two levels take them in turn."""
    return f"{number % 10}/{number // 10 % 10}/{number:07d}"

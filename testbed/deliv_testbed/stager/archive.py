"""The archive's products: those named by products.json, and others made on demand.

products.json in the archive's root maps a product id to an object whose `file` is a path
relative to the root; with `files`, an object of the names below it, it is a directory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deliv_testbed import synthetic
from deliv_testbed.trees import tree_of

INDEX = "products.json"
CHUNK = 2**20


@dataclass(frozen=True, kw_only=True)
class Product:
    """`name` is the basename its copy gets.

    `files`, to be read once, has each file's name, relative to the directory where `is_directory`
    and `name` itself otherwise, and its content in pieces of at most 1 MiB.
    """

    name: str
    files: Iterable[tuple[str, Iterator[bytes]]]
    is_directory: bool = False


class Archive:
    def __init__(self, root: Path) -> None:
        self._root = root

    def size(self, product_id: str) -> int:
        """In bytes, of all files; 0 when the archive has none of that id."""
        if (size := synthetic.size_of(product_id)) is not None:
            return size
        if tree := tree_of(product_id):
            return tree.total
        entry = json.loads((self._root / INDEX).read_text("utf-8")).get(product_id)
        if entry is None:
            return 0
        source = self._root / str(entry["file"])
        return sum((source / name).stat().st_size for name in entry.get("files", [""]))

    def find(self, product_id: str) -> Product | None:
        """The product, or None when the archive has none of that id."""
        size = synthetic.size_of(product_id)
        if size is not None:
            return Product(name=product_id, files=[(product_id, synthetic.chunks(size))])
        if tree := tree_of(product_id):
            files = ((name, tree.chunks(number)) for number, name in enumerate(tree.names, 1))
            return Product(name=product_id, files=files, is_directory=True)
        entry = json.loads((self._root / INDEX).read_text("utf-8")).get(product_id)
        if entry is None:
            return None
        source = self._root / str(entry["file"])
        if "files" in entry:
            files = ((name, chunks(source / name)) for name in entry["files"])
            return Product(name=source.name, files=files, is_directory=True)
        return Product(name=source.name, files=[(source.name, chunks(source))])


def chunks(source: Path) -> Iterator[bytes]:
    """A file's content in pieces of at most 1 MiB."""
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk

"""The archive's products: files named by products.json, and synthetic ones made on demand.

products.json in the archive's root maps a product id to an object whose `file` is a path
relative to the root.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deliv_testbed import synthetic

INDEX = "products.json"
CHUNK = 2**20


@dataclass(frozen=True, kw_only=True)
class Product:
    """`name` is the basename a copy gets; `source` the file, None for a synthetic product."""

    name: str
    source: Path | None = None

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces of at most 1 MiB."""
        if self.source is None:
            yield from synthetic.chunks(synthetic.size_of(self.name) or 0)
            return
        with self.source.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


class Archive:
    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, product_id: str) -> Product | None:
        """The product, or None when the archive has none of that id."""
        if synthetic.size_of(product_id) is not None:
            return Product(name=product_id)
        entry = json.loads((self._root / INDEX).read_text("utf-8")).get(product_id)
        if entry is None:
            return None
        source = self._root / str(entry["file"])
        return Product(name=source.name, source=source)

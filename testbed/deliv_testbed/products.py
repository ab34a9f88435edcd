"""The archive's seed products: known sizes and checksums, awkward names among them.

    python -m deliv_testbed.products ROOT          # for an archive that has no index yet

`products.json` beside them is the index that the dummy stager reads. A product's file bears its
id as name. What is not in the index may be `synthetic-<BYTES>`, made on demand: see synthetic.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import zlib
from pathlib import Path

from deliv_testbed import synthetic
from deliv_testbed.stager.archive import INDEX

SEED = {
    "005": 2**20,
    "1510850130-empty.rdb": 0,
    "1510850130-sdp-l0.rdb": 4_321,
    "M31 HI cube.fits": 3_000_001,
    "Südhimmel-β.fits": 7_654_321,
    "1541443392-sdp-l0.tar": 64 * 2**20,
    "1541443392-sdp-l1.tar": 2**30,
}
WRITTEN_WHOLE = 64 * 2**20
STAMP = 4096
ZEROS = memoryview(bytes(synthetic.BLOCK))

Catalogue = dict[str, dict[str, str | int]]


def install(root: Path, sizes: dict[str, int] = SEED) -> None:
    """Write the products and their index below the archive's root."""
    directory = root / "products"
    directory.mkdir(parents=True, exist_ok=True)
    catalogue: Catalogue = {}
    for product_id, size in sizes.items():
        path = directory / product_id
        adler32 = _write(path, size)
        file = str(path.relative_to(root))
        catalogue[product_id] = {"size": size, "adler32": adler32, "file": file}
    text = json.dumps(catalogue, ensure_ascii=False, indent=1)
    (root / INDEX).write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """An index that is there already stays, and so does all it names."""
    parser = argparse.ArgumentParser(prog="python -m deliv_testbed.products")
    parser.add_argument("root", type=Path)
    root: Path = parser.parse_args(arguments).root
    if not (root / INDEX).exists():
        install(root, SEED)
    return 0


def known(root: Path) -> Catalogue:
    """The index without its file names: id -> size in bytes, adler32."""
    catalogue: Catalogue = json.loads((root / INDEX).read_text(encoding="utf-8"))
    return {
        product_id: {"size": entry["size"], "adler32": entry["adler32"]}
        for product_id, entry in catalogue.items()
    }


def _write(path: Path, size: int) -> str:
    """Write a file; its ADLER32 in eight hexadecimal digits.

    Of a large file each MiB begins with bytes of its own, and zeros follow that the disk need not
    store: `up` is not to wait for a gigabyte.
    """
    value = zlib.adler32(b"")
    with path.open("wb") as file:
        for chunk in synthetic.chunks(size):
            kept = chunk if size <= WRITTEN_WHOLE else chunk[:STAMP]
            zeros = len(chunk) - len(kept)
            value = zlib.adler32(ZEROS[:zeros], zlib.adler32(kept, value))
            file.write(kept)
            file.seek(zeros, os.SEEK_CUR)
        file.truncate(size)
    return f"{value:08x}"


if __name__ == "__main__":
    sys.exit(main())

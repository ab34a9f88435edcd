"""The archive's seed products: known sizes and checksums, awkward names among them.

    python -m deliv_testbed.products ROOT          # for an archive that has no index yet

`products.json` beside them is the index that the dummy stager reads. A product's file, or its
directory, bears its id as name. What is not in the index may be made on demand: `synthetic-<BYTES>`
(synthetic.py), `tree-<FILES>-<BYTES>` (trees.py).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deliv_testbed import synthetic
from deliv_testbed.stager.archive import INDEX

# The size of a product's file; of a directory, those of the files in it.
Sizes = Mapping[str, int | Mapping[str, int]]

SEED: Sizes = {
    "005": 2**20,
    "1510850130-empty.rdb": 0,
    "1510850130-sdp-l0.rdb": 4_321,
    "M31 HI cube.fits": 3_000_001,
    "Südhimmel-β.fits": 7_654_321,
    "1541443392-sdp-l0.tar": 64 * 2**20,
    "1541443392-sdp-l1.tar": 2**30,
    "1541443392-sdp-l0": {
        "1541443392-sdp-l0.full.rdb": 54_321,
        "correlator_data/00000_00000_00000.npy": 2**20,
        "correlator_data/00001_00000_00000.npy": 2**20 + 1,
        "flags/00000/00000.npy": 7,
        "flags/00000/00001.npy": 0,
        "logs/observing log.txt": 1_234,
        "logs/Südhimmel-β.txt": 0,
    },
}
WRITTEN_WHOLE = 64 * 2**20
STAMP = 4096
ZEROS = memoryview(bytes(synthetic.BLOCK))

Entry = dict[str, Any]


def install(root: Path, sizes: Sizes | None = None) -> None:
    """Write the products (those of SEED) and their index below the archive's root."""
    directory = root / "products"
    directory.mkdir(parents=True, exist_ok=True)
    catalogue: dict[str, Entry] = {}
    for product_id, size in (SEED if sizes is None else sizes).items():
        path = directory / product_id
        if isinstance(size, int):
            entry = _write(path, size)
        else:
            files = {name: _write(path / name, of_file) for name, of_file in size.items()}
            entry = {"size": sum(size.values()), "files": files}
        catalogue[product_id] = entry | {"file": str(path.relative_to(root))}
    text = json.dumps(catalogue, ensure_ascii=False, indent=1)
    (root / INDEX).write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """An index that is there already stays, and so does all it names."""
    parser = argparse.ArgumentParser(prog="python -m deliv_testbed.products")
    parser.add_argument("root", type=Path)
    root: Path = parser.parse_args(arguments).root
    if not (root / INDEX).exists():
        install(root)
    return 0


def known(root: Path) -> dict[str, Entry]:
    """The index without its file names: id -> size in bytes, adler32.

    Of a directory `files`, in place of adler32, has both for each file.
    """
    catalogue: dict[str, Entry] = json.loads((root / INDEX).read_text(encoding="utf-8"))
    for entry in catalogue.values():
        del entry["file"]
    return catalogue


def _write(path: Path, size: int) -> Entry:
    """Write a file; its size, and its ADLER32 in eight hexadecimal digits.

    Of a large file each MiB begins with bytes of its own, and zeros follow that the disk need not
    store: `up` is not to wait for a gigabyte.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    value = zlib.adler32(b"")
    with path.open("wb") as file:
        for chunk in synthetic.chunks(size):
            kept = chunk if size <= WRITTEN_WHOLE else chunk[:STAMP]
            zeros = len(chunk) - len(kept)
            value = zlib.adler32(ZEROS[:zeros], zlib.adler32(kept, value))
            file.write(kept)
            file.seek(zeros, os.SEEK_CUR)
        file.truncate(size)
    return {"size": size, "adler32": f"{value:08x}"}


if __name__ == "__main__":
    sys.exit(main())

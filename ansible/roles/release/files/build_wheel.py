"""Build deliv's wheel and say what it is: `build_wheel.py CHECKOUT` prints one line of JSON.

`wheel` is its path, below CHECKOUT/build; `version` its version; `digest` stands for all that an
installation is made of: the wheel's content and the pinned requirements. The same checkout gives
the same digest, whoever builds it.
"""

import hashlib
import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path

from hatchling.build import build_wheel

REQUIREMENTS = ("install.txt", "server.txt")


def main(checkout: Path) -> None:
    os.chdir(checkout)  # the build backend's only way to be told (PEP 517)
    shelf = checkout / "build" / "wheels"
    shelf.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shelf) as room:
        built = Path(room, build_wheel(room))
        digest = _digest(built, checkout / "requirements")
        wheel = shelf / digest / built.name
        wheel.parent.mkdir(exist_ok=True)
        built.rename(wheel)
    version = wheel.name.split("-")[1]
    print(json.dumps({"wheel": str(wheel), "version": version, "digest": digest}))


def _digest(wheel: Path, requirements: Path) -> str:
    """Over the hashes of the wheel's files, not over its bytes: zlibs compress differently."""
    found = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        found.update(archive.read(record))
    for name in REQUIREMENTS:
        found.update(hashlib.sha256((requirements / name).read_bytes()).digest())
    return found.hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

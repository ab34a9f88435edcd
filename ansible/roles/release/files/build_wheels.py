"""Build the wheels of a release: `build_wheels.py CHECKOUT PROJECT...` prints one line of JSON.

A PROJECT is a directory of the checkout with a pyproject.toml. `wheels` are the paths of what was
built, below CHECKOUT/build; `version` is that of the first project; `digest` identifies all that
an installation is made of: the wheels' content and the pinned requirements. The same checkout gives
the same digest on every machine.
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


def main(checkout: Path, *projects: str) -> None:
    store = checkout / "build" / "wheels"
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store) as scratch:
        built = []
        for project in projects:
            os.chdir(checkout / project)  # PEP 517: a build backend builds its current directory
            built.append(Path(scratch, build_wheel(scratch)))
        digest = _digest(built, checkout / "requirements")
        (store / digest).mkdir(exist_ok=True)
        wheels = [wheel.rename(store / digest / wheel.name) for wheel in built]
    version = wheels[0].name.split("-")[1]
    print(json.dumps({"wheels": list(map(str, wheels)), "version": version, "digest": digest}))


def _digest(wheels: list[Path], requirements: Path) -> str:
    """Over the hashes of the wheels' files, not over their bytes: zlibs compress differently."""
    digest = hashlib.sha256()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
            digest.update(archive.read(record))
    for name in REQUIREMENTS:
        digest.update(hashlib.sha256((requirements / name).read_bytes()).digest())
    return digest.hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])

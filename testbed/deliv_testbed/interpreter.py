"""A Python that the testbed's user may run, with this one's packages."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import deliv
import deliv_testbed
from deliv_testbed.accounts import Account
from deliv_testbed.errors import TestbedError

PACKAGES = tuple(Path(str(m.__file__)).resolve().parent for m in (deliv, deliv_testbed))
PLACES = (Path("/usr/bin"), Path("/usr/local/bin"))


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    program: Path
    environment: dict[str, str]

    def module(self, name: str, *arguments: str | Path) -> tuple[str | Path, ...]:
        """The command that runs a module."""
        return (self.program, "-P", "-m", name, *arguments)


@cache
def find(account: Account) -> Interpreter:
    """The running interpreter, else one of the same version that the user can execute.

    A virtual environment of a Python that root keeps for itself (as pyenv does in /root) is of no
    use to another user; its packages are, to a Python of the same version elsewhere.
    """
    packages = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    if all(account.can("x", path) for path in (*PACKAGES, *map(Path, packages))):
        if account.can("x", Path(sys.executable)):
            return Interpreter(program=Path(sys.executable), environment={})
        for directory in PLACES:
            program = directory / f"python{sys.version_info.major}.{sys.version_info.minor}"
            if account.can("x", program):
                paths = dict.fromkeys((*(str(p.parent) for p in PACKAGES), *packages))
                return Interpreter(program=program, environment={"PYTHONPATH": ":".join(paths)})
    raise TestbedError(f"{account.name} can't run {sys.executable} with {PACKAGES[0]}")


def directories(account: Account) -> tuple[Path, ...]:
    """The directories that the account must reach to run Python; none when it can already."""
    try:
        find(account)
    except TestbedError:
        return *PACKAGES, Path(sys.prefix), Path(sys.base_prefix)
    return ()

"""A Python that the testbed's user may run, with this one's packages."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import deliv
from deliv.testbed.accounts import Account
from deliv.testbed.errors import TestbedError

PACKAGE_ROOT = Path(deliv.__file__).resolve().parent.parent
PLACES = (Path("/usr/bin"), Path("/usr/local/bin"))


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    program: Path
    environment: dict[str, str]

    def module(self, name: str, *arguments: str | Path) -> tuple[str | Path, ...]:
        """The command that runs a module."""
        return (self.program, "-P", "-m", name, *arguments)


def find(account: Account) -> Interpreter:
    """The running interpreter, else one of the same version that the user can execute.

    A virtual environment of a Python that root keeps for itself (as pyenv does in /root) is of no
    use to another user; its packages are, to a Python of the same version elsewhere.
    """
    account.require_way_to(PACKAGE_ROOT)
    if account.can("x", Path(sys.executable)):
        return Interpreter(program=Path(sys.executable), environment={})
    for directory in PLACES:
        program = directory / f"python{sys.version_info.major}.{sys.version_info.minor}"
        if account.can("x", program):
            return Interpreter(program=program, environment={"PYTHONPATH": _packages(account)})
    raise TestbedError(
        f"the testbed drops root's rights and runs as {account.name}, who can't execute "
        f"{Path(sys.executable).resolve()}. Install with a Python that every user may run "
        f"(PYTHON=/usr/bin/python3 make ...), or run the testbed as an ordinary user."
    )


def _packages(account: Account) -> str:
    directories = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    for directory in directories:
        account.require_way_to(Path(directory))
    return ":".join((str(PACKAGE_ROOT), *directories))

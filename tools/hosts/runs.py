"""A run of hosts: its names, numbers and files. Only data; nothing here changes the machine."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.hosts.errors import HostsError

CHECKOUT = Path(__file__).resolve().parents[2]
# As the kernel names what is mounted there. Several checkouts may share one.
CACHE = Path(os.environ.get("DELIV_HOSTS_CACHE") or CHECKOUT / ".cache" / "hosts").resolve()
GATEWAY_PORT = 3142
LOGIN = "admin"  # may use sudo without a password
FIRST_ADDRESS = 11


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host of a run."""

    name: str
    namespace: str
    address: str
    directory: Path
    managed: bool  # whether it is in the inventory

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def console(self) -> Path:
        return self.directory.with_suffix(".console")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run; `number` is unique on this machine and part of every name outside `directory`."""

    name: str
    number: int
    suite: str
    managed: tuple[str, ...]
    clients: tuple[str, ...]

    @property
    def directory(self) -> Path:
        return directory(self.name)

    @property
    def prefix(self) -> str:
        return f"deliv{self.number}-"

    @property
    def hub(self) -> str:
        return f"{self.prefix}hub"

    @property
    def subnet(self) -> str:
        return subnet(self.number)

    @property
    def gateway(self) -> str:
        return self._address(1)

    @property
    def key(self) -> Path:
        return self.directory / "key"

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory.json"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def hosts(self) -> tuple[Host, ...]:
        return tuple(
            Host(
                name=name,
                namespace=self.prefix + name,
                address=self._address(FIRST_ADDRESS + position),
                directory=self.directory / name,
                managed=name in self.managed,
            )
            for position, name in enumerate((*self.managed, *self.clients))
        )

    def host(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        raise HostsError(f"run {self.name} has no host {name}")

    def save(self) -> None:
        _state(self.name).write_text(json.dumps(asdict(self)))

    def _address(self, last: int) -> str:
        return self.subnet.replace("0/24", str(last))


def subnet(number: int) -> str:
    return f"10.77.{number}.0/24"


def directory(name: str) -> Path:
    return CACHE / "runs" / name


def _state(name: str) -> Path:
    return directory(name) / "run.json"


def exists(name: str) -> bool:
    return _state(name).exists()


def load(name: str) -> Run:
    """The run of that name, as `up` left it."""
    try:
        values = json.loads(_state(name).read_text())
    except FileNotFoundError as error:
        raise HostsError(f"there is no run {name}: bring it up first") from error
    for tuples in ("managed", "clients"):
        values[tuples] = tuple(values[tuples])
    return Run(**values)

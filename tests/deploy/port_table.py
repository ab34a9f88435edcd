"""The table of docs/network.md: on which ports a host listens, and who may connect to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "network.md"
ITSELF = "itself"
ANYWHERE = "anywhere"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hosts in all of `groups` listen on `ports`, for hosts of the group `origin`."""

    groups: frozenset[str]
    ports: tuple[str, ...]
    origin: str

    def numbers(self, instances: int) -> set[int]:
        """`9091+N` means one port of each instance, from 1 on."""
        found = set()
        for text in self.ports:
            base, _, each = text.partition("+")
            found |= {int(base) + n for n in (range(1, instances + 1) if each else (0,))}
        return found


def rows(document: Path = DOCUMENT) -> list[Row]:
    return [
        Row(groups=frozenset(groups.split(" + ")), ports=tuple(ports.split(", ")), origin=origin)
        for groups, ports, origin, _ in _cells(document.read_text())
    ]


def _cells(text: str) -> Iterator[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The table's ports of one host."""

    open: frozenset[int]  # for any other host
    local: frozenset[int]
    rows: tuple[Row, ...]
    instances: int

    def open_to(self, groups: Iterable[str]) -> set[int]:
        """The ports on which a host of these groups may connect."""
        origins = {ANYWHERE, *groups}
        allowed = (row.numbers(self.instances) for row in self.rows if row.origin in origins)
        return set().union(*allowed)


def ports_of(groups: Iterable[str], instances: int) -> Ports:
    """The ports of a host that is in these groups and runs so many instances of deliv."""
    mine = tuple(row for row in rows() if row.groups <= set(groups))
    local = {row: row.numbers(instances) for row in mine if row.origin == ITSELF}
    other = {row: row.numbers(instances) for row in mine if row.origin != ITSELF}
    return Ports(
        open=frozenset(set().union(*other.values())),
        local=frozenset(set().union(*local.values())),
        rows=mine,
        instances=instances,
    )

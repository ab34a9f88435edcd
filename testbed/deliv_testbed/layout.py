"""The stack's parts, what `up` was asked for, and where files are below the stack's directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from deliv_testbed import ports
from deliv_testbed.clocks import Clock
from deliv_testbed.pki import write

SERVERS = ("mariadb", "rabbitmq", "gridftp-archive", "gridftp-destination")
# Each is `python -m deliv_testbed.NAME --config FILE`: an HTTPS server that has a certificate, a
# port, a directory, and a URL in testbed.json. To add one: write that module (see serving.py), name
# it here, and give its settings in services.py.
DUMMIES = ("issuer", "stager", "fts")
DELIV = "deliv"
DATA_PORTS = 1000


@dataclass(frozen=True, kw_only=True)
class Layout:
    directory: Path

    @property
    def description(self) -> Path:
        """What others read to find the stack."""
        return self.directory / "testbed.json"

    @property
    def plan(self) -> Path:
        """The Plan of the last `up`; it marks the directory as a testbed's."""
        return self.directory / "plan.json"

    @property
    def policy(self) -> Path:
        return self.directory / "policy.yaml"

    @property
    def secrets(self) -> Path:
        return self.directory / "secrets"

    @property
    def delegation_key(self) -> Path:
        """What deliv encrypts delegated keys with."""
        return self.secrets / "delegation-key"

    @property
    def ca_directory(self) -> Path:
        return self.directory / "pki" / "certificates"

    @property
    def authority(self) -> Path:
        """The CA's own directory. It is kept for the next stack: others may trust it."""
        return self.directory / "authority"

    @property
    def ca_file(self) -> Path:
        return self.authority / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.authority / "ca.key"

    def credential(self, owner: str) -> tuple[Path, Path]:
        """Certificate and key of a user, service or host, as in `users/alice`."""
        base = self.directory / "pki" / owner
        return base.with_name(f"{base.name}.pem"), base.with_name(f"{base.name}.key")

    def proxy(self, owner: str) -> Path:
        return self.directory / "pki" / f"{owner}.proxy"

    def config(self, instance: int) -> Path:
        """deliv's configuration; the first instance's has the plain name."""
        name = "deliv.yaml" if instance == 1 else f"deliv@{instance}.yaml"
        return self.directory / name

    @property
    def audit_log(self) -> Path:
        return self.directory / "log" / "audit.log"

    def clock(self, part: str) -> Clock:
        return Clock(file=self.directory / "clocks" / part)

    def settings(self, dummy: str) -> Path:
        """The dummy stager's, the dummy FTS's or the token issuer's settings."""
        return self.directory / f"{dummy}.json"


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """The ports of one deliv: REST and monitoring."""

    rest: int
    monitoring: int


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` was asked for: `fts_url` and `fts_ca` name an existing FTS3 and its CAs.

    `clocks` are the parts with clocks of their own.
    """

    instances: int = 1
    fts_servers: int = 1
    without: tuple[str, ...] = ()
    fts_url: str | None = None
    fts_ca: str | None = None
    clocks: tuple[str, ...] = ()

    @property
    def dummies(self) -> tuple[str, ...]:
        """The dummies by name: the FTS servers beside the first are fts@2, fts@3 and so on."""
        more_fts = (f"fts@{number}" for number in range(2, self.fts_servers + 1))
        return (*DUMMIES, *more_fts)

    @property
    def deliv(self) -> tuple[str, ...]:
        """The instances of deliv by name."""
        return tuple(f"{DELIV}@{number}" for number in range(1, self.instances + 1))

    @property
    def parts(self) -> tuple[str, ...]:
        """Every part, whether it is to run or was left out."""
        return (*SERVERS, *self.dummies, *self.deliv)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A request and the ports chosen for it, kept for later commands.

    `ports` by the name of what listens there; `data_ports` the first of each GridFTP server's.
    """

    request: Request
    ports: dict[str, int]
    data_ports: dict[str, int]
    instances: tuple[Instance, ...]


def choose(request: Request) -> Plan:
    """A plan with ports that are free now."""
    archive = ports.choose_block(DATA_PORTS)
    destination = ports.choose_block(DATA_PORTS, taken=archive)
    names = (*SERVERS, "rabbitmq-distribution", "epmd", *request.dummies)
    count = len(names) + 2 * request.instances
    chosen = ports.choose(count, taken=(*archive, *destination))
    others = chosen[len(names) :]
    pairs = zip(others[::2], others[1::2], strict=True)
    return Plan(
        request=request,
        ports=dict(zip(names, chosen, strict=False)),
        data_ports={"archive": archive.start, "destination": destination.start},
        instances=tuple(Instance(rest=rest, monitoring=other) for rest, other in pairs),
    )


def save(layout: Layout, plan: Plan) -> None:
    write(layout.plan, msgspec.json.encode(plan))


def load(layout: Layout) -> Plan | None:
    """The plan of the last `up` in this directory; None when there is none of this version."""
    try:
        return msgspec.json.decode(layout.plan.read_bytes(), type=Plan)
    except (FileNotFoundError, msgspec.DecodeError):
        return None

"""Where things stand below a testbed's directory, and what `up` was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from deliv_testbed import ports
from deliv_testbed.pki import write

DATA_PORTS = 1000


@dataclass(frozen=True, kw_only=True)
class Layout:
    directory: Path

    @property
    def description(self) -> Path:
        """What others read to find the stack: its keys are DESIGN section 7's."""
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
        """The CA's own directory. It outlives the stack: who trusts the CA need not begin anew."""
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

    def settings(self, dummy: str) -> Path:
        """The dummy stager's, the dummy FTS's or the token issuer's settings."""
        return self.directory / f"{dummy}.json"


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """The ports of one deliv: REST and monitoring."""

    rest: int
    monitoring: int


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` was asked for: `fts_url` and `fts_ca` name an existing FTS3 and its CAs."""

    instances: int = 1
    fts_servers: int = 1
    without: tuple[str, ...] = ()
    fts_url: str | None = None
    fts_ca: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A request and the ports chosen for it, kept for later commands."""

    request: Request
    mariadb: int
    rabbitmq: tuple[int, int, int]
    gridftp_archive: int
    gridftp_destination: int
    archive_data: int
    destination_data: int
    stager: int
    fts: tuple[int, ...]
    issuer: int
    instances: tuple[Instance, ...]


def choose(request: Request) -> Plan:
    """A plan with ports that are free now."""
    archive_data = ports.choose_block(DATA_PORTS)
    destination_data = ports.choose_block(DATA_PORTS, taken=archive_data)
    blocks = (*archive_data, *destination_data)
    chosen = ports.choose(8 + request.fts_servers + 2 * request.instances, taken=blocks)
    mariadb, archive, destination, stager, issuer, amqp, distribution, epmd = chosen[:8]
    fts, others = chosen[8 : 8 + request.fts_servers], chosen[8 + request.fts_servers :]
    pairs = zip(others[::2], others[1::2], strict=True)
    return Plan(
        request=request,
        mariadb=mariadb,
        rabbitmq=(amqp, distribution, epmd),
        gridftp_archive=archive,
        gridftp_destination=destination,
        archive_data=archive_data.start,
        destination_data=destination_data.start,
        stager=stager,
        fts=tuple(fts),
        issuer=issuer,
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

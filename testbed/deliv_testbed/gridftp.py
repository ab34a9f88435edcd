"""A private GridFTP server that shows one directory, and third-party copies between two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from deliv_testbed import ports
from deliv_testbed.accounts import Account
from deliv_testbed.pki import Authority, write, write_credential
from deliv_testbed.processes import Program

SAFE = "/-_.~+:@,="


@dataclass(frozen=True, kw_only=True)
class Server:
    """`root` is the directory it shows, under its real path; `data_ports` carry the copies.

    About one data port per copy stays in TIME_WAIT for a minute, hence a wide range.
    """

    name: str
    directory: Path
    root: Path
    ca_directory: Path
    port: int
    data_ports: range = field(repr=False)
    host: str = ports.LOOPBACK

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The root directory's URL."""
        return self.url_of(self.root)

    def url_of(self, path: Path) -> str:
        return f"gsiftp://{self.address}{quote(str(path), safe=SAFE)}"

    def install(self, authority: Authority, grid_map: str, account: Account) -> None:
        """Make the root, the host's credential and the map of who may come in."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.directory.mkdir(parents=True, mode=0o700)
        write_credential(self._certificate, self._key, authority.issue_host())
        write(self._grid_map, grid_map.encode())
        for path in (self.root, self.directory):
            account.own(path)

    def program(self) -> Program:
        low, high = self.data_ports.start, self.data_ports.stop - 1
        return Program(
            name=self.name,
            command=(
                "globus-gridftp-server",
                *("-c", "/dev/null", "-s", "-p", str(self.port), "-hostname", self.host),
                *("-control-interface", self.host, "-data-interface", self.host),
                *("-port-range", f"{low},{high}"),
                *("-restrict-paths", self.root, "-home-dir", self.root, "-use-home-dirs"),
                # 2: authorise each access; 4: the mapped account needs no change of user
                *("-auth-level", "6", "-disable-usage-stats"),
                *("-log-level", "ERROR,WARN,INFO", "-logfile", "/dev/stderr"),
            ),
            environment={
                "X509_CERT_DIR": self.ca_directory,
                "X509_USER_CERT": self._certificate,
                "X509_USER_KEY": self._key,
                "GRIDMAP": self._grid_map,
                "GLOBUS_TCP_PORT_RANGE": f"{low},{high}",
            },
            directory=self.directory,
            ready=lambda: ports.accepts(self.port, self.host),
        )

    @property
    def _certificate(self) -> Path:
        return self.directory / "hostcert.pem"

    @property
    def _key(self) -> Path:
        return self.directory / "hostkey.pem"

    @property
    def _grid_map(self) -> Path:
        return self.directory / "grid-mapfile"


def grid_map(dns: Iterable[str], account: Account) -> str:
    """A Globus grid-mapfile that lets these DNs in, all as `account`."""
    return "".join(f'"{dn}" {account.name}\n' for dn in dns)


def client_environment(proxy: Path, ca_directory: Path) -> Mapping[str, str]:
    """The variables that globus-url-copy and gfal need to act with a proxy."""
    return {"X509_USER_PROXY": str(proxy), "X509_CERT_DIR": str(ca_directory)}

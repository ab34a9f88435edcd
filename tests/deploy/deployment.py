"""A whole deployment: site.yml over a fleet by an inventory, and users at a host of their own."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from deploy.client import Client
from deploy.fleet import ANSIBLE, BIN, Fleet, Play
from tools.hosts.programs import wait

SITE = ANSIBLE / "site.yml"
AUTHORITY = PurePosixPath("/etc/deliv-ca")
CA_DIRECTORY = PurePosixPath("/etc/grid-security/certificates")
USER_ROOT = PurePosixPath("/srv/user")
ARCHIVE_ROOT = PurePosixPath("/var/lib/deliv-stager/archive")


@dataclass(frozen=True)
class Deployment:
    """`secrets`: the test's directory, in which Ansible keeps the passwords that it generates."""

    fleet: Fleet
    inventory: Path
    secrets: Path

    def play(self, *options: str, path: Path = SITE, plain: bool = False) -> Play:
        variable = f"--extra-vars=deliv_secrets_directory={self.secrets}"
        return self.fleet.playbook(
            path, variable, *options, inventories=[self.inventory], plain=plain
        )

    def converge(self, *options: str, path: Path = SITE) -> Play:
        play = self.play(*options, path=path)
        assert play.succeeded, f"{path.name} failed:\n{play.output[-8000:]}"
        return play

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The hosts of each group, groups of groups included."""
        listing = self.fleet.in_hub(
            str(BIN / "ansible-inventory"), "--list", f"--inventory={self.inventory}"
        )
        return _members(json.loads(listing.stdout))

    def host(self, group: str) -> str:
        """The one host of a group, or its first."""
        return self.groups[group][0]

    def groups_of(self, host: str) -> list[str]:
        return [group for group, hosts in self.groups.items() if host in hosts]

    def instances(self, host: str) -> int:
        """How many instances of deliv run on a host."""
        listing = self.fleet.execute(
            host, "systemctl", "list-units", "--plain", "--no-legend", "--state=active",
            "deliv@*.service",
        )  # fmt: skip
        return len(listing.stdout.splitlines())

    def user(self, name: str, host: str) -> Client:
        """A user of the lab at a client host, with the credential that the lab's CA issued."""
        place = self.fleet.root(self.host("deliv_ca")) / (AUTHORITY / "users" / name).relative_to(
            "/"
        )
        anchors = self.fleet.root(self.host("deliv_ca")) / CA_DIRECTORY.relative_to("/")
        client = Client(self.fleet, host, f"https://{self.host('deliv_service')}:8443")
        client.equip(
            (place / "cert.pem").read_bytes(),
            (place / "key.pem").read_bytes(),
            {path.name: path.read_bytes() for path in anchors.iterdir()},
        )
        return client

    def destination(self, directory: str) -> str:
        """A directory below the user side's root, as a URL."""
        host = self.host("deliv_gridftp_user")
        port = 2812 if host in self.groups["deliv_gridftp_archive"] else 2811
        return f"gsiftp://{host}:{port}{USER_ROOT / directory}"

    def delivered(self, directory: str, name: str) -> Path:
        """The path of a delivered product on this machine."""
        root = self.fleet.root(self.host("deliv_gridftp_user"))
        return root / (USER_ROOT / directory / name).relative_to("/")

    def archived(self, product: str) -> Path:
        """The path of an archived product on this machine."""
        root = self.fleet.root(self.host("deliv_stager")) / ARCHIVE_ROOT.relative_to("/")
        index = json.loads((root / "products.json").read_text())
        return root / str(index[product]["file"])

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Until each instance of deliv reports that all its dependencies are there."""
        for host in self.groups["deliv_service"]:
            for number in range(1, self.instances(host) + 1):
                self._wait_until_ready(host, 9091 + number, seconds)

    def _wait_until_ready(self, host: str, port: int, seconds: float) -> None:
        ask = shlex.join(["curl", "-fsS", "-m", "5", f"http://127.0.0.1:{port}/ready"])

        def ready() -> bool:
            return '"ready"' in self.fleet.execute(host, "sh", "-c", ask, check=False).stdout

        wait(ready, f"{host}:{port} is ready", seconds, every=0.5)


def _members(inventory: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    def of(group: str) -> list[str]:
        entry = inventory.get(group, {})
        below = [host for child in entry.get("children", []) for host in of(child)]
        return sorted({*entry.get("hosts", []), *below})

    return {group: of(group) for group in inventory if group != "_meta"}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""One role on bare hosts: a playbook of common and that role, and the credentials that it needs.

::

    play = RolePlay(fleet, tmp_path, "mariadb", groups={"deliv_database": ["data"]})
    play.dry_run()                  # --check --diff on the bare host
    trust(fleet, "data")            # CA directory, bundle, host credential
    play.converge_idempotently()    # afterwards a second run and a dry run change nothing
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cryptography import x509
from deliv_testbed import pki

from deploy.fleet import Fleet, Play

CHECK = ("--check", "--diff")
GRID = PurePosixPath("/etc/grid-security")
AUTHORITIES = GRID / "certificates"
BUNDLE = GRID / "ca.pem"


class RolePlay:
    """The roles common and `role` on all hosts of a fleet, or on the group `on` alone.

    After the first run common is left out: what follows is about `role`. `groups` are the groups of
    the inventory by name. A host of them that is not of the fleet (a client host, say) is in the
    inventory with its address, and no play runs on it. `variables` hold for all hosts. `output` has
    the output of every play.
    """

    def __init__(
        self,
        fleet: Fleet,
        directory: Path,
        role: str,
        *,
        groups: Mapping[str, Sequence[str]],
        variables: Mapping[str, Any] | None = None,
        on: str = "deliv_all",
    ) -> None:
        self.output = ""
        self.directory, self.inventory = directory, directory / "inventory.json"
        self._fleet, self._groups, self._variables = fleet, groups, dict(variables or {})
        self._on, self._role, self._prepared = on, role, role == "common"

    def vary(self, **variables: Any) -> None:
        """Set variables for the plays that follow."""
        self._variables |= variables

    def dry_run(self) -> Play:
        """--check --diff must succeed."""
        return self._converge(*CHECK)

    def converge(self, *options: str) -> Play:
        return self._converge(*options)

    def converge_idempotently(self) -> Play:
        """The role succeeds; a second run and a dry run afterwards change nothing."""
        first = self._converge()
        for options in ((), CHECK):
            again = self._converge(*options)
            assert not again.changed, f"changed again: {again.changed}"
            assert not any(recap["changed"] for recap in again.recap.values()), again.recap
        return first

    def _converge(self, *options: str) -> Play:
        _write(self.inventory, self._described())
        play = self._fleet.converge(self._playbook(), *options, inventories=[self.inventory])
        self._prepared = self._prepared or "--check" not in options
        self.output += play.output
        return play

    def _playbook(self) -> Path:
        roles = [self._role] if self._prepared else ["common", self._role]
        play = {"hosts": self._on, "become": True, "roles": [{"role": role} for role in roles]}
        return _write(self.directory / f"{self._role}.yml", [play])

    def _described(self) -> dict[str, Any]:
        fleet = self._fleet
        others = {name for names in self._groups.values() for name in names} - set(fleet.names)
        groups = {"deliv_all": fleet.names, **self._groups}
        return {
            "all": {
                "hosts": {name: {"ansible_host": fleet.address(name)} for name in others},
                "vars": {"common_address": "{{ ansible_host }}", **self._variables},
                "children": {
                    group: {"hosts": dict.fromkeys(names)} for group, names in groups.items()
                },
            }
        }


def trust(fleet: Fleet, *hosts: str, authority: pki.Authority | None = None) -> pki.Authority:
    """Put a CA directory, its bundle and a host credential on each host; the CA is returned."""
    authority = authority or pki.Authority.create()
    for host in hosts:
        root = fleet.root(host)
        authority.install(root / AUTHORITIES.relative_to("/"))
        fleet.put(host, BUNDLE, pki.certificate_pem(authority.certificate))
        certify(fleet, host, authority)
    return authority


def certify(fleet: Fleet, host: str, authority: pki.Authority) -> pki.Credential:
    """Put a new host credential on a host, for its name and address."""
    names = (host, fleet.address(host))
    credential = authority.issue(pki.host_name(host), hosts=names)
    fleet.put(host, GRID / "hostcert.pem", credential.certificate_pem())
    fleet.put(host, GRID / "hostkey.pem", credential.key_pem(), mode=0o400)
    return credential


def served_certificate(
    fleet: Fleet, origin: str, target: str, port: int, starttls: str = ""
) -> x509.Certificate:
    """The certificate of a server; `starttls` is a protocol that openssl s_client knows."""
    options = ["-starttls", starttls] if starttls else []
    shown = fleet.execute(
        origin, "openssl", "s_client", "-connect", f"{fleet.address(target)}:{port}", *options,
        check=False,  # it is 1 when the server refuses the missing client certificate
    )  # fmt: skip
    assert "BEGIN CERTIFICATE" in shown.stdout, shown.stdout + shown.stderr
    return x509.load_pem_x509_certificate(shown.stdout.encode())


def secrets_at_rest(fleet: Fleet, host: str, *secrets: str) -> set[str]:
    """The files of a host that hold one of the secrets, logs included."""
    patterns = [f"--regexp={secret}" for secret in secrets]
    found = fleet.execute(
        host, "grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings",
        *patterns, "/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var",
        check=False,
    )  # fmt: skip
    return set(found.stdout.split())


def _write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content, indent=2))
    return path

"""The role gridftp on bare hosts: an archive's server, a user's, and copies between them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from deliv_testbed import pki
from deliv_testbed.gridftp import client_environment

from deploy.booting import Boot
from deploy.fleet import Fleet
from deploy.observe import ports, security_score
from deploy.roles import AUTHORITIES, RolePlay, certify, trust
from tools.hosts.programs import wait

PORT = 2811
SERVERS = {"archive": "archive", "dtn": "user"}
COPIER = ("timeout", "60", "globus-url-copy")


class Pair:
    """Two hosts with a GridFTP server each, and users who copy from outside of them."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet, self._directory = fleet, directory
        self.authority = pki.Authority.create()
        self.users = {name: self.authority.issue(pki.user_name(name)) for name in ("alice", "eve")}
        self.play = RolePlay(
            fleet, directory, "gridftp", groups={"deliv_gridftp": fleet.names},
            variables={
                "gridftp_name": "{{ {'archive': 'archive', 'dtn': 'user'}[inventory_hostname] }}",
                "gridftp_map": [{"dn": self.users["alice"].dn}],
                "common_time_sync": False,
            },
        )  # fmt: skip

    def equip(self) -> None:
        """The CA for hosts and users, proxies for the users."""
        trust(self.fleet, *self.fleet.names, authority=self.authority)
        self.authority.install(self._directory / "certificates")
        for name, credential in self.users.items():
            pki.write_proxy(self._directory / f"{name}.proxy", credential.proxy())

    def copy(
        self, source: str, target: str, user: str = "alice"
    ) -> subprocess.CompletedProcess[str]:
        """The result of a copy by globus-url-copy; ends are HOST:PATH, or a file of the test."""
        proxy = self._directory / f"{user}.proxy"
        environment = client_environment(proxy, self._directory / "certificates")
        settings = [f"{name}={value}" for name, value in environment.items()]
        ends = (self._url(source), self._url(target))
        return self.fleet.in_hub("env", *settings, *COPIER, *ends, check=False)

    def put(self, host: str, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """A file of the server's account."""
        account = f"gridftp-{SERVERS[host]}"
        self.fleet.put(host, PurePosixPath(path), content, mode=mode)
        self.fleet.execute(host, "chown", f"{account}:", path)

    def read(self, host: str, path: str) -> bytes:
        return (self.fleet.root(host) / path.lstrip("/")).read_bytes()

    def show(self, host: str, *properties: str) -> str:
        names = [f"--property={name}" for name in properties]
        return self.fleet.execute(
            host, "systemctl", "show", "--value", *names, f"gridftp@{SERVERS[host]}"
        ).stdout.strip()

    def wait_until_up(self, host: str) -> None:
        wait(lambda: PORT in ports(self.fleet, host), f"the GridFTP server of {host} listens", 30)

    def _url(self, end: str) -> str:
        host, colon, path = end.partition(":")
        return f"gsiftp://{self.fleet.address(host)}:{PORT}{path}" if colon else f"file://{end}"


@pytest.fixture(scope="module")
def pair(boot: Boot, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with boot(suite, *SERVERS) as fleet:
        pair = Pair(fleet, tmp_path_factory.mktemp("gridftp"))
        pair.play.dry_run()
        pair.equip()
        pair.play.converge_idempotently()
        for host in SERVERS:
            pair.wait_until_up(host)
        yield pair


def test_a_file_goes_from_one_to_the_other(pair: Pair) -> None:
    content = bytes(range(256)) * 40_000
    pair.put("archive", "/srv/archive/a file", content)
    done = pair.copy("archive:/srv/archive/a%20file", "dtn:/srv/user/copy")
    assert done.returncode == 0, done.stderr
    assert pair.read("dtn", "/srv/user/copy") == content
    log = ("journalctl", "--unit=gridftp@user", "--output=cat")
    login = f"DN {pair.users['alice'].dn} successfully authorized"
    wait(lambda: login in pair.fleet.execute("dtn", *log).stdout, "the journal has the caller", 30)


def test_who_is_not_on_the_list_is_refused(pair: Pair) -> None:
    pair.put("archive", "/srv/archive/secret", b"x")
    done = pair.copy("archive:/srv/archive/secret", "dtn:/srv/user/stolen", user="eve")
    assert done.returncode
    assert "gridmap" in done.stderr.lower()
    assert not (pair.fleet.root("dtn") / "srv/user/stolen").exists()


def test_nothing_but_the_root_is_served(pair: Pair, tmp_path: Path) -> None:
    for path in ("/etc/passwd", "/srv/user/../../etc/passwd", "/etc/gridftp/user/hostkey.pem"):
        assert pair.copy(f"dtn:{path}", str(tmp_path / "stolen")).returncode, path
    assert not (tmp_path / "stolen").exists() or not (tmp_path / "stolen").read_bytes()


def test_an_archive_is_read_only(pair: Pair) -> None:
    pair.put("dtn", "/srv/user/mine", b"x")
    assert pair.copy("dtn:/srv/user/mine", "archive:/srv/archive/mine").returncode
    assert not (pair.fleet.root("archive") / "srv/archive/mine").exists()


def test_who_is_revoked_is_refused_at_once(pair: Pair) -> None:
    pair.put("archive", "/srv/archive/wanted", b"x")
    directory = pair.fleet.root("archive") / AUTHORITIES.relative_to("/")
    ends = ("archive:/srv/archive/wanted", "dtn:/srv/user/wanted")
    pair.authority.publish_revocations(directory, [pair.users["alice"].certificate])
    assert pair.copy(*ends).returncode
    pair.authority.publish_revocations(directory, [])
    assert pair.copy(*ends).returncode == 0


def test_a_renewed_certificate_is_used_without_a_restart(pair: Pair) -> None:
    """Callers do not trust the certificate, until the role installs another one."""
    pair.put("archive", "/srv/archive/small", b"x")
    process = pair.show("archive", "MainPID")
    ends = ("archive:/srv/archive/small", "dtn:/srv/user/small")
    strange = pki.Authority.create().issue_host("archive")
    pair.put("archive", "/etc/gridftp/archive/hostcert.pem", strange.certificate_pem())
    pair.put("archive", "/etc/gridftp/archive/hostkey.pem", strange.key_pem(), mode=0o400)
    assert pair.copy(*ends).returncode
    certify(pair.fleet, "archive", pair.authority)
    pair.play.converge("--limit=archive")
    assert pair.copy(*ends).returncode == 0
    assert pair.show("archive", "MainPID") == process


def test_it_runs_unprivileged_and_sandboxed(pair: Pair) -> None:
    for host, name in SERVERS.items():
        assert pair.show(host, "User") == f"gridftp-{name}"
        assert security_score(pair.fleet, host, f"gridftp@{name}") <= 2.0
        assert ports(pair.fleet, host) == {22, PORT}
        key = f"/etc/gridftp/{name}/hostkey.pem"
        status = pair.fleet.execute(host, "stat", "--format=%a %U", key).stdout
        assert status.split() == ["400", f"gridftp-{name}"]


def test_it_is_restarted_when_killed(pair: Pair) -> None:
    pair.fleet.execute("dtn", "systemctl", "kill", "--signal=KILL", "gridftp@user")
    wait(lambda: pair.show("dtn", "NRestarts", "ActiveState").split() == ["1", "active"],
         "systemd starts it again", 30)  # fmt: skip
    pair.wait_until_up("dtn")
    pair.put("archive", "/srv/archive/after", b"x")
    assert pair.copy("archive:/srv/archive/after", "dtn:/srv/user/after").returncode == 0

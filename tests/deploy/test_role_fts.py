"""The role lab_service as FTS on a bare host: the official client's scripts, a copy by GridFTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from cryptography import x509
from deliv_testbed import pki

from deploy.booting import Boot
from deploy.fleet import Fleet
from deploy.observe import connects, ports, security_score
from deploy.roles import AUTHORITIES, RolePlay, certify, served_certificate, trust
from tools.hosts.programs import wait

PORT, GRIDFTP = 8446, 2811
UNIT = "deliv-fts"
HOME = PurePosixPath("/root/grid")
CONTENT = bytes(range(256)) * 1000
SCRIPTS = "/opt/deliv-testbed/current/bin"


class Site:
    """`fts` has FTS, `dtn` a GridFTP server; `dtn` is in the group of deliv's hosts too."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet, self.authority = fleet, pki.Authority.create()
        self.alice = self.authority.issue(pki.user_name("alice"))
        groups = {"deliv_fts": ["fts"], "deliv_gridftp": ["dtn"], "deliv_service": ["dtn"]}
        self.play = RolePlay(
            fleet, directory, "lab_service", on="deliv_fts", groups=groups,
            variables={"lab_service_name": "fts", "common_time_sync": False},
        )  # fmt: skip
        self.gridftp = RolePlay(
            fleet, directory, "gridftp", on="deliv_gridftp", groups=groups,
            variables={
                "gridftp_name": "user", "gridftp_map": [{"dn": self.alice.dn}],
                "common_time_sync": False,
            },
        )  # fmt: skip

    def equip(self) -> None:
        trust(self.fleet, *self.fleet.names, authority=self.authority)
        self.fleet.put("fts", HOME / "cert.pem", self.alice.certificate_pem())
        self.fleet.put("fts", HOME / "key.pem", self.alice.key_pem(), mode=0o400)

    def script(self, name: str, *arguments: str) -> str:
        """The output of one of the official client's scripts, run by alice."""
        done = self.fleet.execute(
            "fts", f"{SCRIPTS}/{name}", "-s", f"https://{self.fleet.address('fts')}:{PORT}",
            "--capath", str(AUTHORITIES), "--cert", str(HOME / "cert.pem"),
            "--key", str(HOME / "key.pem"), *arguments,
        )  # fmt: skip
        return done.stdout + done.stderr

    def wait_until_up(self) -> None:
        wait(lambda: PORT in ports(self.fleet, "fts"), "FTS listens", 30)

    def certificate(self) -> x509.Certificate:
        """The certificate that it uses now."""
        return served_certificate(self.fleet, "dtn", "fts", PORT)


@pytest.fixture(scope="module")
def site(boot: Boot, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with boot(suite, "fts", "dtn", clients=("client",)) as fleet:
        site = Site(fleet, tmp_path_factory.mktemp("fts"))
        site.play.dry_run()
        site.equip()
        site.play.converge_idempotently()
        site.wait_until_up()
        yield site


@pytest.fixture(scope="module")
def job(site: Site) -> str:
    """A copy that has ended, between two directories of the GridFTP server."""
    site.gridftp.converge()
    wait(lambda: GRIDFTP in ports(site.fleet, "dtn"), "the GridFTP server listens", 30)
    site.fleet.put("dtn", PurePosixPath("/srv/user/source"), CONTENT)
    base = f"gsiftp://{site.fleet.address('dtn')}:{GRIDFTP}/srv/user"
    site.script("fts-rest-delegate", "--force")
    output = site.script(
        "fts-rest-transfer-submit", "--blocking", "--interval", "1", "--compare-checksum",
        f"{base}/source", f"{base}/new/copy",
    )  # fmt: skip
    return next(line.split()[-1] for line in output.splitlines() if "Job id:" in line)


def test_whoami_answers_the_callers_dn(site: Site) -> None:
    assert site.alice.dn in site.script("fts-rest-whoami")


def test_it_copies_with_what_was_delegated(site: Site, job: str) -> None:
    assert "Status: FINISHED" in site.script("fts-rest-transfer-status", job)
    assert (site.fleet.root("dtn") / "srv/user/new/copy").read_bytes() == CONTENT


def test_only_deliv_reaches_it(site: Site) -> None:
    assert ports(site.fleet, "fts") == {22, PORT}
    assert connects(site.fleet, "dtn", "fts", PORT)
    assert not connects(site.fleet, "client", "fts", PORT)


def test_it_runs_without_rights(site: Site) -> None:
    assert security_score(site.fleet, "fts", UNIT) <= 2.0
    key = site.fleet.execute("fts", "stat", "--format=%a %U", "/etc/deliv-fts/hostkey.pem")
    assert key.stdout.split() == ["400", "deliv-fts"]
    assert "PRIVATE KEY" not in site.play.output


def test_variables_of_the_former_roles_are_refused(site: Site) -> None:
    with pytest.raises(AssertionError, match=r"fts_slots: .* lab_service_settings"):
        site.play.converge("--extra-vars=fts_slots=4")


def test_it_takes_a_renewed_certificate(site: Site) -> None:
    before = site.certificate()
    certify(site.fleet, "fts", site.authority)
    site.play.converge()
    site.wait_until_up()
    assert site.certificate() != before
    assert site.alice.dn in site.script("fts-rest-whoami")


def test_it_stops_cleanly_and_keeps_its_jobs(site: Site, job: str) -> None:
    site.fleet.execute("fts", "systemctl", "stop", UNIT)
    result = site.fleet.execute(
        "fts", "systemctl", "show", "--value", "--property=Result,ExecMainStatus", UNIT
    ).stdout
    assert sorted(result.split()) == ["0", "success"]
    site.fleet.execute("fts", "systemctl", "start", UNIT)
    site.wait_until_up()
    assert "Status: FINISHED" in site.script("fts-rest-transfer-status", job)

"""The role ca on bare hosts: names, purposes and places of certificates; renewal and revocation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from deliv.identity.x509.dn import oneline, subject
from deploy.booting import Boot
from deploy.fleet import Fleet
from deploy.roles import AUTHORITIES, BUNDLE, GRID, RolePlay

CA = PurePosixPath("/etc/deliv-ca")
PEOPLE = CA / "users"
HOST = GRID / "hostcert.pem"
ROLE_DIRECTORIES = (str(GRID), str(CA))


class Lab:
    """Two hosts: `data` keeps the CA, `deliv` has the services."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.play = RolePlay(
            fleet, directory, "ca",
            groups={
                "deliv_ca": ["data"], "deliv_service": ["deliv"], "deliv_stager": ["deliv"],
            },
            variables={
                "ca_users": ["alice", "bob"], "common_firewall": False, "common_time_sync": False,
            },
        )  # fmt: skip

    def certificate(self, host: str, path: PurePosixPath) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.text(host, path).encode())

    def dn(self, host: str, path: PurePosixPath) -> str:
        return oneline(subject(self.certificate(host, path)))

    def serial(self, host: str, path: PurePosixPath) -> str:
        command = ("openssl", "x509", "-noout", "-serial", "-in", str(path))
        return self.fleet.execute(host, *command).stdout.strip().removeprefix("serial=")

    def text(self, host: str, path: PurePosixPath) -> str:
        return self.fleet.execute(host, "cat", str(path)).stdout

    def verify(self, host: str, certificate: str, *options: str) -> str:
        """The output of `openssl verify` on a host, with its CA directory and CRLs."""
        authorities = ("-CApath", str(AUTHORITIES), "-crl_check_all", "-x509_strict")
        command = ("openssl", "verify", *authorities, *options)
        done = self.fleet.execute(host, *command, check=False, stdin=certificate)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def lab(boot: Boot, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with boot(suite, "data", "deliv") as fleet:
        lab = Lab(fleet, tmp_path_factory.mktemp("ca"))
        lab.play.dry_run()
        lab.play.converge_idempotently()
        yield lab


def test_every_name_is_as_globus_writes_it(lab: Lab) -> None:
    base = "/DC=org/DC=example"
    assert lab.dn("data", CA / "cert.pem") == f"{base}/CN=deliv lab CA"
    assert lab.dn("deliv", HOST) == f"{base}/OU=hosts/CN=deliv"
    assert lab.dn("deliv", GRID / "deliv/cert.pem") == f"{base}/OU=services/CN=deliv"
    assert lab.dn("deliv", GRID / "stager/cert.pem") == f"{base}/OU=services/CN=stager"
    assert lab.dn("data", PEOPLE / "alice/cert.pem") == f"{base}/OU=people/CN=alice"


@pytest.mark.parametrize("host", ["data", "deliv"])
def test_a_host_is_certified_by_name_and_address(lab: Lab, host: str) -> None:
    certificate = lab.text(host, HOST)
    for other in lab.fleet.names:
        for names in (("-verify_hostname", host), ("-verify_ip", lab.fleet.address(host))):
            assert "OK" in lab.verify(other, certificate, "-purpose", "sslserver", *names)
    assert "mismatch" in lab.verify(host, certificate, "-verify_hostname", "elsewhere")


def test_people_and_services_are_callers_and_no_servers(lab: Lab) -> None:
    for host, path in (("data", PEOPLE / "bob/cert.pem"), ("deliv", GRID / "stager/cert.pem")):
        certificate = lab.text(host, path)
        assert "OK" in lab.verify("deliv", certificate, "-purpose", "sslclient")
        assert "OK" not in lab.verify("deliv", certificate, "-purpose", "sslserver")


def test_the_ca_directory_is_complete_and_the_bundle_is_the_ca(lab: Lab) -> None:
    for host in lab.fleet.names:
        names = lab.fleet.execute(host, "ls", str(AUTHORITIES)).stdout.split()
        base = names[0].partition(".")[0]
        assert sorted(names) == [f"{base}.0", f"{base}.r0", f"{base}.signing_policy"]
        assert lab.text(host, BUNDLE) == lab.text("data", CA / "cert.pem")
        policy = lab.text(host, AUTHORITIES / f"{base}.signing_policy")
        assert "access_id_CA   X509    '/DC=org/DC=example/CN=deliv lab CA'" in policy
        assert """cond_subjects  globus  '"/DC=org/DC=example/*"'""" in policy


def test_keys_are_for_root_alone_and_stay_where_they_are_used(lab: Lab) -> None:
    assert _keys(lab.fleet, "data") == {
        str(path): "400 root"
        for path in (
            CA / "key.pem", GRID / "hostkey.pem", PEOPLE / "alice/key.pem", PEOPLE / "bob/key.pem",
        )
    }  # fmt: skip
    assert _keys(lab.fleet, "deliv") == {
        str(path): "400 root"
        for path in (GRID / "hostkey.pem", GRID / "deliv/key.pem", GRID / "stager/key.pem")
    }
    directory = lab.fleet.execute("data", "stat", "--format=%a %U", str(CA)).stdout
    assert directory.strip() == "700 root"
    assert "PRIVATE KEY" not in lab.play.output


def test_keys_are_rsa(lab: Lab) -> None:
    for host, path, bits in (("data", CA / "cert.pem", 3072), ("deliv", HOST, 2048)):
        key = lab.certificate(host, path).public_key()
        assert isinstance(key, rsa.RSAPublicKey) and key.key_size == bits


def test_renewed_on_demand_and_revoked_for_good(lab: Lab) -> None:
    bob, host = lab.text("data", PEOPLE / "bob/cert.pem"), lab.certificate("deliv", HOST)
    authority = lab.text("data", CA / "cert.pem")
    lab.play.vary(ca_renew=True, ca_revoked=[lab.serial("data", PEOPLE / "bob/cert.pem")])
    lab.play.converge()
    lab.play.vary(ca_renew=False, ca_revoked=[])
    assert "certificate revoked" in lab.verify("deliv", bob)
    assert "OK" in lab.verify("deliv", lab.text("data", PEOPLE / "bob/cert.pem"))
    renewed = lab.certificate("deliv", HOST)
    assert renewed.serial_number != host.serial_number
    assert renewed.public_key() == host.public_key()
    assert lab.text("data", CA / "cert.pem") == authority
    assert not lab.play.converge("--limit=data").changed
    assert "certificate revoked" in lab.verify("data", bob)


def test_what_is_about_to_end_is_renewed(lab: Lab) -> None:
    """One host alone: the others, the CA's too, need not be in the play."""
    before = lab.serial("deliv", HOST)
    lab.play.vary(ca_renew_days=366)
    changed = lab.play.converge("--limit=deliv").changed
    lab.play.vary(ca_renew_days=30)
    assert changed == ["deliv: ca : Write the certificates"] * 3
    assert lab.serial("deliv", HOST) != before


def _keys(fleet: Fleet, host: str) -> dict[str, str]:
    """Each file with a private key below the role's directories, with its mode and owner."""
    files = ("grep", "-rl", "PRIVATE KEY", *ROLE_DIRECTORIES)
    names = fleet.execute(host, *files, check=False).stdout.split()
    lines = fleet.execute(host, "stat", "--format=%n %a %U", *names).stdout.splitlines()
    return dict(line.split(" ", 1) for line in lines)

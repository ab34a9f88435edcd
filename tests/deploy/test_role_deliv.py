"""The role deliv, with MariaDB beside it: sandboxed, restarted only when needed, one by one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from deliv_testbed import pki

from deploy import checkout
from deploy.booting import Boot
from deploy.client import Client
from deploy.fleet import ANSIBLE, Fleet, Play
from deploy.observe import connects, security_score
from deploy.roles import AUTHORITIES, RolePlay, certify, secrets_at_rest, served_certificate, trust
from tools.hosts.programs import wait

HOST, CLIENT = "deliv", "client"
PORT, MONITORING = 8443, 9091
DATABASE, MIGRATIONS, BROKER = "service-51c7", "migrations-e20b", "broker-7d94"
SEALING = [base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)]
OWN = PurePosixPath("/etc/grid-security/deliv")
VERBS = ("reads", "writes", "reaches", "is")
DRAIN = ANSIBLE / "playbooks" / "drain.yml"
DESTINATION = "gsiftp://dtn.example.org/incoming"
AUDIT = "/var/log/deliv/audit.log"
LISTS = PurePosixPath("/srv/lists")
URLS = [f"http://{CLIENT}/{name}" for name in ("garbage", "strange", "absent", "ahead", "good")]
KEYS = ("/etc/grid-security/hostkey.pem", f"{OWN}/key.pem", "/etc/deliv/host/hostkey.pem",
        "/etc/deliv/grid/key.pem", "/etc/deliv/secrets/database", "/etc/deliv/deliv.yaml",
        "/etc/shadow", "/etc/ssh/ssh_host_ed25519_key", "/var/log/deliv/audit.log")  # fmt: skip
# Runs in place of a unit's program: prints what it can read, write and reach.
TRIED = """#!/bin/bash
for file in {keys}; do head -c1 "$file" >/dev/null 2>&1 && echo "reads $file"; done
for place in /etc/x /usr/x {authorities}/01234567.0; do
    : 2>/dev/null >"$place" && echo "writes $place" && rm "$place"
done
: 2>/dev/null </dev/tcp/{client}/80 && echo "reaches {client}"
echo "is $(id -u), $(grep CapEff /proc/self/status)"
"""


@dataclass
class Service:
    """A host of deliv, and a user at another one."""

    fleet: Fleet
    play: RolePlay
    authority: pki.Authority
    user: Client
    certificate: pki.Credential

    def converge(self, **variables: object) -> Play:
        self.play.vary(**variables)
        return self.play.converge("--diff")

    def processes(self) -> dict[str, str]:
        """The PID of the main process of each running instance."""
        shown = self.run("systemctl", "show", "--property=Id,MainPID", "deliv@*.service")
        pairs = re.findall(r"MainPID=(\d+)\nId=deliv@(\d+)", shown)
        return {number: process for process, number in pairs if process != "0"}

    def ready(self, number: int) -> str:
        """The status that an instance reports; "" when it does not answer."""
        url = f"http://127.0.0.1:{MONITORING + number}/ready"
        answer = self.fleet.execute(HOST, "curl", "-sS", url, check=False).stdout
        return str(json.loads(answer)["status"]) if answer else ""

    def anchors(self) -> dict[str, bytes]:
        """The files of the CA directory."""
        directory = self.fleet.root(HOST) / AUTHORITIES.relative_to("/")
        return {file.name: file.read_bytes() for file in directory.iterdir()}

    def submit(self) -> int:
        return self.user.submit("005", DESTINATION).status

    def refuses_the_revoked(self) -> bool:
        answer = self.user.submit("005", DESTINATION)
        return "revoked" in answer.error + str(answer.body)

    def journal(self, unit: str) -> str:
        """What the unit has written so far."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--output=cat", f"--unit={unit}.service")

    def run(self, *command: str) -> str:
        return self.fleet.execute(HOST, *command).stdout


def der(revoked: x509.CertificateRevocationList) -> bytes:
    return revoked.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def service(boot: Boot, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Converged, after a dry run on the bare host."""
    source = checkout.copy(tmp_path_factory.mktemp("source") / "checkout")
    groups = {name: [HOST] for name in ("deliv_database", "deliv_broker", "deliv_service")}
    passwords = {
        "deliv_database_password": DATABASE, "deliv_migrations_password": MIGRATIONS,
        "deliv_broker_password": BROKER, "mariadb_password": DATABASE,
        "mariadb_migrations_password": MIGRATIONS, "mariadb_backup_password": "backup-0000",
    }  # fmt: skip
    with boot(suite, HOST, clients=(CLIENT,)) as fleet:
        variables = passwords | {
            "mariadb_sources": [fleet.address(HOST)],
            "release_checkout": str(source), "deliv_instances": 2, "deliv_crl_urls": URLS,
            "deliv_delegation_keys": SEALING,
        }  # fmt: skip
        plays = [
            RolePlay(fleet, tmp_path_factory.mktemp(role), role, groups=groups, variables=variables)
            for role in ("mariadb", "deliv")
        ]
        plays[1].dry_run()
        authority = trust(fleet, HOST)
        own = authority.issue(pki.service_name("deliv"))
        fleet.put(HOST, OWN / "cert.pem", own.certificate_pem())
        fleet.put(HOST, OWN / "key.pem", own.key_pem(), mode=0o400)
        plays[0].converge()
        plays[1].converge_idempotently()
        alice = authority.issue(pki.user_name("alice"))
        user = Client(fleet, CLIENT, f"https://{HOST}:{PORT}")
        service = Service(fleet, plays[1], authority, user, alice)
        user.equip(alice.certificate_pem(), alice.key_pem(), service.anchors())
        yield service


def test_every_instance_serves(service: Service) -> None:
    """RabbitMQ, the stager and FTS are not there: it runs without them."""
    assert [service.ready(number) for number in (1, 2)] == ["degraded", "degraded"]
    assert service.submit() == 403  # there is no rule yet
    assert not connects(service.fleet, CLIENT, HOST, MONITORING + 1)


def test_it_is_sandboxed(service: Service) -> None:
    helpers = ("deliv-crl-fetch.service", "deliv-crl.service", "deliv-migrate@any.service")
    for unit in ("deliv@1.service", *helpers):
        assert security_score(service.fleet, HOST, unit) <= 2.0, unit
    text = service.run("systemctl", "cat", "deliv@1.service")
    for line in (
        "Type=notify",
        "NonBlocking=yes",
        "WatchdogSec=60",
        "MemoryMax=1G",
        "TasksMax=128",
    ):
        assert line in text.splitlines()
    (process,) = {service.processes()["1"]}
    status = service.run("cat", f"/proc/{process}/status")
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)


def test_files_at_destinations_can_be_read_in_the_sandbox(service: Service) -> None:
    """By Debian's Python, with gfal2; nothing else is up that the check asks."""
    program = "/opt/deliv/current/bin/deliv serve --check --instance 9"
    drop_in = PurePosixPath("/etc/systemd/system/deliv@9.service.d/check.conf")
    lines = ("[Service]", "Type=oneshot", "Restart=no", "ExecStart=", f"ExecStart={program}", "")
    service.fleet.put(HOST, drop_in, "\n".join(lines).encode())
    try:
        service.run("systemctl", "daemon-reload")
        service.fleet.execute(HOST, "systemctl", "start", "deliv@9.service", check=False)
        journal = service.journal("deliv@9")
    finally:
        service.run("rm", "--recursive", str(drop_in.parent))
        service.run("systemctl", "daemon-reload")
        service.fleet.execute(HOST, "systemctl", "reset-failed", "deliv@9.service", check=False)
    assert "ok   gridftp: files at destinations can be compared" in journal, journal


def test_secrets_are_its_own(service: Service) -> None:
    shown = service.run(
        "stat", "-c", "%A %U:%G %n", "/etc/deliv/deliv.yaml", "/etc/deliv/policy.yaml",
        "/etc/deliv/secrets", "/etc/deliv/grid/key.pem", "/etc/deliv/host/hostkey.pem",
    )  # fmt: skip
    assert shown.splitlines() == [
        "-rw-r----- root:deliv /etc/deliv/deliv.yaml",
        "-rw-r----- root:deliv /etc/deliv/policy.yaml",
        "drwx------ root:root /etc/deliv/secrets",
        "-r-------- deliv:deliv /etc/deliv/grid/key.pem",
        "-r-------- deliv:deliv /etc/deliv/host/hostkey.pem",
    ]
    secrets = (DATABASE, MIGRATIONS, BROKER, *SEALING)
    assert not any(secret in service.play.output for secret in secrets)
    names = ("database", "migrations", "broker", "delegation")
    kept = {f"/etc/deliv/secrets/{name}" for name in names}
    found = secrets_at_rest(service.fleet, HOST, *secrets)
    assert {name for name in found if not name.startswith("/run/credentials/")} == kept
    modes = {service.run("stat", "-c", "%a", name).strip() for name in kept}
    assert modes == {"400"}


def test_policy_and_certificates_change_without_a_restart(service: Service) -> None:
    before = service.processes()
    renewed = certify(service.fleet, HOST, service.authority)
    rule = {"dn": service.certificate.dn, "roles": ["submitter"], "destinations": ["*.example.org"]}
    play = service.converge(deliv_policy_rules=[rule])
    assert "RUNNING HANDLER [deliv : Reload deliv]" in play.output
    wait(lambda: service.submit() == 202, "the policy is in force in each instance", 60)
    wait(
        lambda: served_certificate(service.fleet, HOST, HOST, PORT) == renewed.certificate,
        "the new certificate is served", 60,
    )  # fmt: skip
    assert service.processes() == before


def test_voms_servers_are_added_and_removed(service: Service) -> None:
    old, new = ["/O=Grid/CN=voms", "/O=Grid/CN=CA"], ["/O=Grid/CN=voms", "/O=Grid/CN=CA 2"]
    one = {"vo": "skao", "host": "voms.example.org", "chains": [old, new]}
    other = {"vo": "escape", "host": "voms.example.org", "chains": [new]}
    service.converge(deliv_voms_servers=[one, other])
    assert "vomsdir: /etc/deliv/vomsdir" in service.run("cat", "/etc/deliv/deliv.yaml")
    assert lsc_files(service) == {
        "skao/voms.example.org.lsc": [*old, "------ NEXT CHAIN ------", *new],
        "escape/voms.example.org.lsc": new,
    }
    before = service.processes()
    play = service.converge(deliv_voms_servers=[{**one, "chains": [new]}])
    assert "RUNNING HANDLER [deliv : Reload deliv]" in play.output
    assert lsc_files(service) == {"skao/voms.example.org.lsc": new}
    assert service.processes() == before
    service.play.converge_idempotently()
    service.play.vary(deliv_voms_servers=[{**one, "chains": [["no name"]]}])
    with pytest.raises(AssertionError, match="expected the names of a server"):
        service.play.converge()
    service.converge(deliv_voms_servers=[])
    assert lsc_files(service) == {}
    assert "vomsdir" not in service.run("cat", "/etc/deliv/deliv.yaml")


def lsc_files(service: Service) -> dict[str, list[str]]:
    """The names in each file, by its place."""
    directory = service.fleet.root(HOST) / "etc/deliv/vomsdir"
    return {
        str(file.relative_to(directory)): file.read_text("ascii").splitlines()[1:]
        for file in directory.glob("*/*.lsc")
    }


def test_what_the_release_does_not_understand_is_refused(service: Service) -> None:
    before = service.processes()
    service.play.vary(deliv_settings={"colour": "green"})
    with pytest.raises(AssertionError, match=r"unknown key .colour"):
        service.play.converge()
    assert service.processes() == before
    service.play.vary(deliv_settings={})


def test_the_audit_log_is_a_file_that_is_rotated(service: Service) -> None:
    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in service.run("cat", AUDIT).splitlines()]

    def audited() -> bool:
        service.submit()
        return any(entry.get("dn") == service.certificate.dn for entry in lines())

    wait(audited, "requests are on record", 60)
    before = service.processes()
    service.run("logrotate", "--force", "/etc/logrotate.d/deliv")
    wait(audited, "the new file is written", 60)
    assert service.processes() == before
    shown = service.run("find", "/var/log/deliv", "-printf", "%M %u:%g %f\n").splitlines()
    assert shown[0] == "drwxr-x--- deliv:deliv deliv"
    assert "-rw-r----- deliv:deliv audit.log" in shown
    (old,) = [name for name in shown if "audit.log-" in name]
    assert old.startswith("-rw-")
    assert old[7:10] == "---"  # no one else may read it
    assert '"log":"audit"' not in service.journal("deliv@1")


def test_settings_restart_what_they_concern(service: Service) -> None:
    before = service.processes()
    service.converge(deliv_settings={"limits": {"in_flight": 7}}, deliv_instances=1)
    after = service.processes()
    assert set(after) == {"1"}
    assert after["1"] != before["1"]
    assert "in_flight: 7" in service.run("cat", "/etc/deliv/deliv.yaml")


def test_the_run_after_an_interrupted_one_completes_it(service: Service) -> None:
    """An instance that it did not reach still has the old settings."""
    unit = service.fleet.root(HOST) / "etc/systemd/system/deliv@.service"
    good = unit.read_text()
    unit.write_text(re.sub("(DELIV_GENERATION=).*", r"\1before", good))
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "start", "deliv@2.service")
    before = service.processes()
    service.converge(deliv_instances=2)
    after = service.processes()
    assert unit.read_text() == good
    assert set(after) == {"1", "2"}
    assert after["1"] == before["1"]
    assert after["2"] != before["2"]


def test_a_killed_instance_comes_back_and_the_port_stays_open(service: Service) -> None:
    before = service.processes()
    service.run("systemctl", "kill", "--signal=KILL", "deliv@1.service", "deliv@2.service")
    assert connects(service.fleet, CLIENT, HOST, PORT)
    wait(lambda: service.submit() == 202, "callers are served again", 60)
    wait(lambda: {service.ready(1), service.ready(2)} == {"degraded"}, "both are back", 60)
    assert not set(service.processes().values()) & set(before.values())


def test_revocation_lists_are_fetched_and_garbage_is_not(service: Service) -> None:
    """The role had the URLs from the first run on."""
    alice = service.certificate.certificate
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    lists = {
        "garbage": b"<html>",
        "strange": der(pki.Authority.create().revocation_list()),
        "ahead": der(service.authority.revocation_list(updated=tomorrow)),
    }
    for name, content in (
        lists | {"good": der(service.authority.revocation_list([alice]))}
    ).items():
        service.fleet.put(CLIENT, LISTS / name, content)
    service.fleet.execute(
        CLIENT, "systemd-run", "--quiet", "--unit=lists",
        "python3", "-m", "http.server", "--directory", str(LISTS), "80",
    )  # fmt: skip
    wait(lambda: connects(service.fleet, HOST, CLIENT, 80), "the lists are served", 30)
    before = service.anchors()
    assert service.submit() == 202
    assert "deliv-crl.timer" in service.run("systemctl", "list-timers")
    # A run of the timer's own that is under way may have looked before the lists were there
    service.run(
        "systemctl", "stop", "deliv-crl.timer", "deliv-crl-fetch.service", "deliv-crl.service"
    )
    tried = service.fleet.execute(HOST, "systemctl", "start", "deliv-crl.service", check=False)
    assert tried.returncode == 1  # four of them could not be installed
    wait(service.refuses_the_revoked, "the list is in force", 90)
    reasons = ("not a rev", "not signed", "not fetched", "not in force yet", "/etc/")
    for url, why in zip(URLS, reasons, strict=True):
        line = re.compile(f"^{re.escape(url)}: .*{why}", re.MULTILINE)
        wait(lambda line=line: line.search(service.journal("deliv-crl")), line.pattern, 60)
    assert "ignoring" not in service.journal("deliv-crl")  # systemd has understood each line
    after = service.anchors()
    assert [name for name in after if after[name] != before.get(name)] == [
        name for name in before if name.endswith(".r0")
    ]


def test_an_older_list_does_not_replace_a_newer_one(service: Service) -> None:
    ago = datetime.now(UTC) - timedelta(days=1)
    service.fleet.put(CLIENT, LISTS / "good", der(service.authority.revocation_list(updated=ago)))
    before = service.anchors()
    service.fleet.execute(HOST, "systemctl", "start", "deliv-crl.service", check=False)
    assert service.anchors() == before
    line = f"{URLS[-1]}: older than the one that is there"
    wait(lambda: line in service.journal("deliv-crl"), line, 60)


def test_lists_are_fetched_by_one_who_owns_nothing_and_installed_without_the_network(
    service: Service,
) -> None:
    """Each unit's own sandbox, with another program in it."""
    program = "/usr/local/sbin/tried"
    tried = TRIED.format(keys=" ".join(KEYS), authorities=AUTHORITIES, client=CLIENT)
    service.fleet.put(HOST, PurePosixPath(program), tried.encode(), mode=0o755)
    assert service.run(program).count("reads") == len(KEYS)  # they are all there
    output = {}
    for unit in ("deliv-crl-fetch", "deliv-crl"):
        drop_in = PurePosixPath(f"/etc/systemd/system/{unit}.service.d/tried.conf")
        service.fleet.put(HOST, drop_in, f"[Service]\nExecStart=\nExecStart={program}\n".encode())
        service.run("systemctl", "daemon-reload")
        begin = ("systemctl", "start", "--job-mode=ignore-dependencies", f"{unit}.service")
        service.fleet.execute(HOST, *begin, check=False)
        journal = service.journal(unit)
        output[unit] = [line for line in journal.splitlines() if line.split(" ")[0] in VERBS]
        service.run("rm", "--recursive", str(drop_in.parent))
    service.run("systemctl", "daemon-reload")
    assert all(output.values()), service.run("journalctl", "--lines=100", "--unit=deliv-crl*")
    *reached, identity = output["deliv-crl-fetch"]
    assert reached == [f"reaches {CLIENT}"]
    assert re.fullmatch(r"is 6\d{4}, CapEff:\t0+", identity)  # a dynamic user
    *written, identity = output["deliv-crl"]
    assert written == [f"writes {AUTHORITIES}/01234567.0"]
    assert re.fullmatch(r"is 0, CapEff:\t0+", identity)


def test_what_was_fetched_is_not_trusted(service: Service) -> None:
    """Its user may write anything there: links to what root can read, and pipes."""
    fetched = PurePosixPath("/var/cache/private/deliv-crl")
    for number, target in enumerate((f"{OWN}/key.pem", f"{AUTHORITIES}", "/dev/zero"), start=1):
        service.run("ln", "--force", "--symbolic", target, str(fetched / str(number)))
    service.run("rm", "--force", str(fetched / "4"), str(fetched / "5"))
    service.run("mkfifo", str(fetched / "4"))
    before = service.anchors()
    begin = ("systemctl", "start", "--job-mode=ignore-dependencies", "deliv-crl.service")
    assert service.fleet.execute(HOST, *begin, check=False).returncode == 1
    assert service.anchors() == before
    lines = service.journal("deliv-crl").splitlines()
    reasons = [line.partition(": ")[2] for line in lines if line.startswith("http://")][-5:]
    unread = "not a file of at most 50000000 bytes"
    assert reasons == [unread, unread, unread, "not a revocation list", "not fetched"]


def test_a_host_is_drained_and_brought_back(service: Service) -> None:
    inventories = [service.play.inventory]
    alone = service.fleet.playbook(DRAIN, inventories=inventories)
    assert not alone.succeeded
    assert "No host of deliv would be left" in alone.output
    service.fleet.converge(DRAIN, "-e", "drain_all=true", inventories=inventories)
    assert service.processes() == {}
    assert not connects(service.fleet, CLIENT, HOST, PORT)
    service.fleet.reboot(HOST)
    assert service.processes() == {}
    service.fleet.converge(DRAIN, "-e", "drain_back=true", inventories=inventories)
    assert set(service.processes()) == {"1", "2"}


def test_it_comes_back_when_its_host_reboots(service: Service) -> None:
    service.fleet.reboot(HOST)
    wait(lambda: {service.ready(1), service.ready(2)} == {"degraded"}, "both are back", 60)

"""An operator's day: what docs/operate.md and docs/recovery.md tell to type is typed, as written.

Blocks that call Ansible are typed on the operator's machine, the others by root on the host. The
transcript is in .cache/tests/operate.txt, beside the tests' reports.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.documents import Block, blocks

from deploy import checkout
from deploy.booting import Boot
from deploy.client import Client
from deploy.deployment import Deployment, sha256
from deploy.fleet import ANSIBLE, BIN, CHECKOUT, Fleet, mitogen
from deploy.observe import connects
from deploy.served import gridftp_serial, serial_of_file, tls_serial
from deploy.small_disk import clear, fill, small_disk
from deploy.steady import Steady
from tools.hosts.programs import wait

HOST, CLIENT = "deliv", "client"
PORT = 8443
OPERATE, RECOVERY = (CHECKOUT / "docs" / f"{name}.md" for name in ("operate", "recovery"))
BLOCKS = {
    block.about: block
    for page in (OPERATE, RECOVERY)
    for block in blocks(page)
    if block.mark == "test"
}
TYPED = {
    "install", "upgrade", "drain a host", "drain all", "remove", "backup", "restore", "new server",
    "new directory", "renew", "served", "journal", "check", "full disk",
}  # fmt: skip
TRANSCRIPT = CHECKOUT / ".cache" / "tests" / "operate.txt"
SERVERS = {PORT: (), 3306: ("-starttls", "mysql"), 5671: (), 8444: (), 8446: ()}
GRIDFTP = (2811, 2812)
DATABASE, BROKER = "/var/lib/mysql", "/var/lib/rabbitmq"
SLOW = "slow-45-synthetic-1000003"  # still at the stager when the database is restored
# On the operator's machine: what the page has set before, and no remote to pull from.
PREPARED = """\
export PATH={bin}:$PATH INVENTORY={inventory}
git() {{ echo "would run: git $*"; }}
"""
# curl's own exit code says nothing of an HTTP error.
PREPARED_ON_HOST = 'curl() { command curl --fail-with-body "$@"; }\n'
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def deployment(
    boot: Boot, suite: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """All of deliv on one machine, by an inventory of the test's own."""
    inventory = tmp_path_factory.mktemp("inventories") / "single"
    shutil.copytree(
        ANSIBLE / "inventories" / "single", inventory, ignore=shutil.ignore_patterns(".*")
    )
    TRANSCRIPT.parent.mkdir(parents=True, exist_ok=True)
    TRANSCRIPT.unlink(missing_ok=True)
    with boot(suite, HOST, clients=(CLIENT,)) as fleet:
        shutil.copy(fleet.run.inventory, inventory / "logins.json")
        deployment = Deployment(fleet, inventory, inventory / ".secrets")
        follow(deployment, "install")
        deployment.wait_until_ready()
        yield deployment


@pytest.fixture
def alice(deployment: Deployment) -> Client:
    return deployment.user("alice", CLIENT)


def follow(deployment: Deployment, name: str, **replaced: str) -> str:
    """Type a block of the pages, which must succeed; `replaced` are its placeholders."""
    done = attempt(deployment, name, **replaced)
    assert done.returncode == 0, f"{name}: {done.returncode}\n{done.stdout[-8000:]}{done.stderr}"
    return done.stdout


def attempt(deployment: Deployment, name: str, **replaced: str) -> Done:
    block = BLOCKS[name]
    text = block.text
    for placeholder, value in replaced.items():
        text = re.sub(rf"\b{placeholder}\b", value, text)
    return typed(deployment, block, text)


def typed(deployment: Deployment, block: Block, text: str) -> Done:
    """In bash, where the page means it to be: on the operator's machine or on the host."""
    shell = ("bash", "-euo", "pipefail", "-c")
    if "ansible" in text:
        prepared = PREPARED.format(bin=BIN, inventory=deployment.inventory)
        done = deployment.fleet.in_hub(
            "env", *mitogen(), *shell, prepared + text, cwd=ANSIBLE, timeout=3600, check=False
        )  # with Mitogen: at a third of the cost
    else:
        done = deployment.fleet.execute(HOST, *shell, PREPARED_ON_HOST + text, check=False)
    with TRANSCRIPT.open("a", encoding="utf-8") as file:
        file.write(f"=== {block.name}\n{text}{done.stdout}{done.stderr}=== {done.returncode}\n\n")
    return done


def run_on_host(deployment: Deployment, page: Path) -> str:
    """A page's blocks that the local stack is tried with too, one after another."""
    run = [block for block in blocks(page) if block.mark == "run"]
    text = "".join(block.text for block in run).replace("deliv.example.org", HOST)
    done = typed(deployment, run[0], text)
    assert done.returncode == 0, f"{done.stdout[-8000:]}{done.stderr}"
    return done.stdout


def test_every_block_is_typed_here() -> None:
    assert set(BLOCKS) == TYPED
    examples = [
        block.about
        for page in (OPERATE, RECOVERY)
        for block in blocks(page)
        if block.mark == "example"
    ]
    assert len(examples) == 2, examples  # the tools, an inventory


def test_what_is_typed_on_a_host(deployment: Deployment, alice: Client) -> None:
    operator = "cd /etc/deliv-ca/users/operator && cat cert.pem key.pem > /tmp/x509up_operator"
    deployment.fleet.execute(HOST, "sh", "-c", f"umask 077; {operator}")
    output = run_on_host(deployment, OPERATE)
    assert "ok   mariadb" in output
    job = re.search(r'"job_id": ?"([^"]+)"', output)
    assert job, output
    assert alice.wait_until_final(job[1])["status"] == "SUCCESS"
    assert "no finding" in run_on_host(deployment, RECOVERY)
    assert job[1] in follow(deployment, "journal", JOB=job[1])


def test_commands_of_the_service_have_its_account_and_sandbox(deployment: Deployment) -> None:
    """Of root's, those that need secrets; in place of the release's program, one that looks."""
    program = "/opt/deliv/current/bin/deliv"
    look = '#!/bin/sh\nid -un; ls "${CREDENTIALS_DIRECTORY-/none}"; touch /etc/x; exit 5\n'
    sh = ("bash", "-c")
    run = deployment.fleet.execute
    run(HOST, "mv", program, f"{program}.real")
    try:
        run(HOST, *sh, f"printf %s {shlex.quote(look)} > {program}; chmod 755 {program}")
        seen = {
            name: run(HOST, *sh, f"cd /root; deliv {name} 2>/dev/null", check=False)
            for name in ("check", "queue list", "serve --check", "policy")
        }
    finally:
        run(HOST, "mv", f"{program}.real", program)
        run(HOST, "rm", "-f", "/etc/x")
    for name in ("check", "queue list", "serve --check"):
        assert seen[name].stdout.split() == ["deliv", "broker", "database"], name
    assert seen["policy"].stdout.split() == ["root"]
    assert {done.returncode for done in seen.values()} == {5}


def test_the_check_fails_on_what_it_finds_and_when_it_cannot_look(deployment: Deployment) -> None:
    """It has the service's secrets: with a lost count it looks, and repairs it."""
    follow(deployment, "check")
    sql = ("mariadb", "deliv", "-e")
    playbook = ANSIBLE / "playbooks" / "check.yml"
    deployment.fleet.execute(HOST, *sql, "UPDATE submitter_jobs SET success = success + 1")
    found = deployment.play(path=playbook)
    assert not found.succeeded
    assert "counts of" in found.output
    assert deployment.play("-e", "check_repair=true", path=playbook).succeeded
    assert deployment.play(path=playbook).succeeded
    deployment.fleet.execute(HOST, "mv", "/etc/deliv/secrets/broker", "/etc/deliv/broker")
    try:
        assert not deployment.play(path=playbook).succeeded
    finally:
        deployment.fleet.execute(HOST, "mv", "/etc/deliv/broker", "/etc/deliv/secrets/broker")


def test_a_mistake_in_the_settings_changes_nothing(deployment: Deployment) -> None:
    wrong = {"deliv_settings": {"limits": {"in_flght": 5}}, "mariadb_max_connections": 321}
    right = wrong | {
        "deliv_settings": {},
        "deliv_policy_rules": [{"dn": "/CN=x", "roles": ["king"]}],
    }
    for settings, why in ((wrong, "did you mean in_flight"), (right, "king")):
        for options in (("--check",), ()):
            play = deployment.play("-e", json.dumps(settings), *options)
            assert not play.succeeded
            assert play.changed == []
            assert why in play.output


def test_a_rehearsal_names_what_the_run_changes(deployment: Deployment) -> None:
    settings = yaml.safe_load((deployment.inventory / "group_vars/all/lab.yml").read_text())
    settings["deliv_settings"]["limits"] = {"in_flight": 150}
    settings["deliv_policy_rules"][0]["quota"] = 5000
    changed = deployment.inventory / "group_vars" / "all" / "later.yml"
    names = ("deliv_settings", "deliv_policy_rules")
    changed.write_text(yaml.safe_dump({name: settings[name] for name in names}))
    password = deployment.inventory / ".secrets" / "broker"
    password.unlink()
    rehearsed = deployment.converge("--check")
    assert not password.exists()
    assert sum("Restart instance" in task for task in rehearsed.changed) == 2
    assert deployment.converge().changed == rehearsed.changed
    deployment.wait_until_ready()


def test_an_upgrade_and_a_rollback_that_lasts(deployment: Deployment) -> None:
    version = checkout.version(CHECKOUT)
    follow(deployment, "upgrade", **{"0.1.0": version})
    assert f"{HOST} keeps release {version}" in follow(deployment, "new server")


def test_a_host_is_drained_and_all_are(deployment: Deployment) -> None:
    alone = attempt(deployment, "drain a host", HOST=HOST)
    assert alone.returncode != 0
    assert "No host of deliv would be left" in alone.stdout
    follow(deployment, "drain all")
    deployment.wait_until_ready()


def test_a_backup_is_whole_and_private_and_disturbs_nobody(
    deployment: Deployment, alice: Client
) -> None:
    with Steady(deployment, alice, "backup") as steady:
        output = follow(deployment, "backup")
    here = newest(deployment)
    there = deployment.fleet.root("deliv") / "var/backups/deliv" / here.name
    assert here.name in output
    assert sha256(here) == sha256(there)
    assert {oct(file.stat().st_mode & 0o777) for file in (here, there)} == {"0o600"}
    assert there.stat().st_uid == 0
    steady.assert_nothing_lost()


def test_what_was_deleted_is_restored_and_jobs_go_on(deployment: Deployment, alice: Client) -> None:
    ended, going = jobs_ended_and_going(deployment, alice, "restored")
    follow(deployment, "backup")
    taken, history = newest(deployment), events(deployment, ended)
    deployment.fleet.execute(
        "deliv", "mariadb", "deliv", "-e", "TRUNCATE TABLE jobs; DROP TABLE job_events"
    )
    assert alice.status(ended).status != 200
    follow(deployment, "restore")
    assert events(deployment, ended) == history
    assert_delivered(deployment, alice, going, "restored/going")
    # What was given up is kept, and is not what the same command restores the next time
    assert newest(deployment) == taken
    assert list((deployment.inventory / ".backups").glob("before-restore-deliv-*.sql.gz"))


def test_deliv_stays_stopped_while_a_restore_cannot_be_checked(deployment: Deployment) -> None:
    fts = "deliv-fts.service"
    deployment.fleet.execute(HOST, "systemctl", "stop", fts)
    try:
        done = attempt(deployment, "restore")
        assert done.returncode != 0
        assert "deliv is stopped, since not all could be checked" in done.stdout
        assert deployment.instances(HOST) == 0
    finally:
        deployment.fleet.execute(HOST, "systemctl", "start", fts)
    follow(deployment, "restore")
    deployment.wait_until_ready()


def test_a_lost_database_server_is_replaced(deployment: Deployment, alice: Client) -> None:
    ended, going = jobs_ended_and_going(deployment, alice, "replaced")
    follow(deployment, "backup")
    history = events(deployment, ended)
    lose_the_database(deployment.fleet)
    assert_held(attempt(deployment, "new server"), alice)
    follow(deployment, "restore")
    assert events(deployment, ended) == history
    assert_delivered(deployment, alice, going, "replaced/going")


def test_a_lost_data_directory_is_made_again(deployment: Deployment, alice: Client) -> None:
    ended, going = jobs_ended_and_going(deployment, alice, "again")
    follow(deployment, "backup")
    history = events(deployment, ended)
    deployment.fleet.execute(HOST, "systemctl", "stop", "mariadb.service")
    deployment.fleet.execute(HOST, "find", "/var/lib/mysql", "-mindepth", "1", "-delete")
    lost = attempt(deployment, "new server")
    assert lost.returncode != 0
    assert "mariadb-install-db --user=mysql" in lost.stdout
    follow(deployment, "new directory")
    assert_held(attempt(deployment, "new server"), alice)
    follow(deployment, "restore")
    assert events(deployment, ended) == history
    assert_delivered(deployment, alice, going, "again/going")


def assert_held(done: Done, user: Client) -> None:
    """site.yml has done its work but for the service, and says so; nobody can submit."""
    assert done.returncode != 0
    assert "The database is empty, and there was another one" in done.stdout
    assert user.submit("005", "gsiftp://deliv:2812/srv/user").status in {0, 503}


def test_certificates_are_renewed_while_users_submit(deployment: Deployment, alice: Client) -> None:
    before = serials(deployment)
    with Steady(deployment, alice, "renewed") as steady:
        follow(deployment, "renew")
    after = serials(deployment)
    assert set(after.values()) == {serial_of_file(deployment.fleet, "deliv")}
    assert not set(after.values()) & set(before.values())
    assert next(iter(after.values())) in follow(deployment, "served").replace("serial=", "")
    steady.assert_nothing_lost()


def test_a_full_disk_loses_nothing(deployment: Deployment, alice: Client) -> None:
    """Of MariaDB and RabbitMQ, until there is room again. deliv goes on by itself."""
    fleet = deployment.fleet
    with (
        small_disk(fleet, HOST, "mariadb", DATABASE, "700m"),
        small_disk(fleet, HOST, "rabbitmq-server", BROKER, "1300m"),
    ):
        deployment.wait_until_ready(120)
        _, going = jobs_ended_and_going(deployment, alice, "full")
        for directory in (DATABASE, BROKER):
            fill(fleet, HOST, directory)
        fleet.execute(HOST, "systemctl", "kill", "--signal=KILL", "mariadb", "rabbitmq-server")
        destination = deployment.destination("full/refused")
        wait(lambda: alice.submit("005", destination).status == 503, "callers get 503", 120)
        follow(deployment, "full disk")
        for directory in (DATABASE, BROKER):
            clear(fleet, HOST, directory)
        deployment.wait_until_ready(900)
        assert_delivered(deployment, alice, going, "full/going")
        answer = alice.submit("005", deployment.destination("full/after"))
        assert alice.wait_until_final(answer.body["job_id"])["status"] == "SUCCESS"
        follow(deployment, "check")


def test_the_service_is_removed(deployment: Deployment) -> None:
    """The last of the day."""
    follow(deployment, "remove")
    assert not connects(deployment.fleet, CLIENT, HOST, PORT)
    places = (
        "/etc/deliv",
        "/opt/deliv",
        "/usr/local/sbin/deliv",
        "/etc/systemd/system/deliv@.service",
    )
    root = deployment.fleet.root(HOST)
    assert [place for place in places if (root / place.removeprefix("/")).exists()] == []
    assert deployment.fleet.state(HOST) == "running"


def jobs_ended_and_going(deployment: Deployment, user: Client, place: str) -> tuple[str, str]:
    """A job that has ended, and one that waits for the stager."""
    answers = [
        user.submit(product, deployment.destination(f"{place}/{name}"))
        for name, product in (("ended", "005"), ("going", SLOW))
    ]
    assert [answer.status for answer in answers] == [202, 202]
    ended, going = (answer.body["job_id"] for answer in answers)
    assert user.wait_until_final(ended)["status"] == "SUCCESS"
    assert user.status(going).body["status"] == "STAGING"
    return ended, going


def events(deployment: Deployment, job: str) -> str:
    """What the database knows of a job that has ended, and of how it came to that."""
    queries = [
        f"SELECT submitter, status, checksum, time_success FROM jobs WHERE job_id = '{job}'",  # noqa: S608 - a UUID of deliv's
        f"SELECT * FROM job_events WHERE job_id = '{job}'",  # noqa: S608 - the same
    ]
    return deployment.fleet.execute("deliv", "mariadb", "deliv", "-e", "; ".join(queries)).stdout


def assert_delivered(deployment: Deployment, user: Client, job: str, place: str) -> None:
    found = user.wait_until_final(job, 180)
    assert found["status"] == "SUCCESS", found
    name = SLOW[SLOW.index("synthetic") :]
    size = int(name.removeprefix("synthetic-"))
    assert deployment.delivered(place, name).stat().st_size == size


def lose_the_database(fleet: Fleet) -> None:
    """Nothing of MariaDB is left on the host, and no backup."""
    packages = fleet.execute(
        "deliv", "dpkg-query", "-W", "-f", "${Package}\n", "mariadb-*", "mysql-common"
    ).stdout.split()
    fleet.execute(
        "deliv",
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-qq",
        "purge",
        "--yes",
        *packages,
    )
    fleet.execute("deliv", "rm", "-rf", "/var/lib/mysql", "/etc/mysql", "/var/backups/deliv")


def newest(deployment: Deployment) -> Path:
    return max((deployment.inventory / ".backups").glob("deliv-*.sql.gz"))


def serials(deployment: Deployment) -> dict[int, str]:
    """The serial number of the certificate that each server shows to a new connection."""
    fleet = deployment.fleet
    shown = {port: tls_serial(fleet, "deliv", port, *how) for port, how in SERVERS.items()}
    return shown | {port: gridftp_serial(fleet, CLIENT, "deliv", port) for port in GRIDFTP}

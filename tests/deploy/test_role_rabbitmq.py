"""The role rabbitmq: TLS only, one account with its own queues only, restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from deliv_testbed import pki

from deploy.booting import Boot
from deploy.fleet import Fleet
from deploy.observe import connects, listeners
from deploy.roles import BUNDLE, RolePlay, certify, secrets_at_rest, served_certificate, trust
from deploy.small_disk import clear, fill, small_disk
from tools.hosts.programs import wait

PORT = 5671
LOCAL = {4369, 25672}
DATA = "/var/lib/rabbitmq"
VHOSTS = ("rabbitmq-diagnostics", "--silent", "check_virtual_hosts")
DEFINITIONS = "/etc/rabbitmq/definitions.json"
PASSWORD = "broker-3fa1"  # of a broker that is removed after the test
QUORUM = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
# Runs in a host: methods of a pika channel in turn; prints the last answer, or the refusal.
CALLS = """
import json, ssl, sys, pika
given = json.load(sys.stdin)
context = ssl.create_default_context(cafile=given["ca"])
parameters = pika.ConnectionParameters(
    given["host"], given["port"], given["vhost"],
    pika.PlainCredentials(given["user"], given["password"]),
    ssl_options=pika.SSLOptions(context, given["host"]) if given["tls"] else None,
    socket_timeout=10, blocked_connection_timeout=20,
)
try:
    channel = pika.BlockingConnection(parameters).channel()
    channel.confirm_delivery()
    for method, arguments in given["calls"]:
        if "body" in arguments:
            arguments["body"] = arguments["body"].encode()
        answer = getattr(channel, method)(**arguments)
    print(json.dumps({"answer": repr(answer)}))
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__} {error!r}"}))
"""


class Account:
    """The broker's answers to deliv's account, by default from its own host."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def call(self, *calls: tuple[str, dict[str, Any]], origin: str = "deliv", **given: Any) -> str:
        usual = {
            "host": self.fleet.address("data"), "port": PORT, "vhost": "deliv", "user": "deliv",
            "password": PASSWORD, "ca": str(BUNDLE), "tls": True, "calls": calls,
        }  # fmt: skip
        done = self.fleet.execute(
            origin, "python3", "-c", CALLS, stdin=json.dumps({**usual, **given})
        )
        ((kind, text),) = json.loads(done.stdout).items()
        return str(text) if kind == "error" else f"ok {text}"

    def declare(self, queue: str, **given: Any) -> str:
        return self.call(("queue_declare", {"queue": queue, **QUORUM}), **given)


@pytest.fixture(scope="module")
def fleet(boot: Boot, suite: str) -> Iterator[Fleet]:
    with boot(suite, "data", "deliv", clients=("client",)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def authority(fleet: Fleet) -> pki.Authority:
    return trust(fleet, "data", "deliv", "client")


@pytest.fixture(scope="module")
def play(
    fleet: Fleet, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> RolePlay:
    """Converged, after a dry run on the bare host."""
    play = RolePlay(
        fleet, tmp_path_factory.mktemp("rabbitmq"), "rabbitmq", on="deliv_broker",
        groups={"deliv_broker": ["data"]},
        variables={"rabbitmq_password": PASSWORD, "rabbitmq_sources": [fleet.address("deliv")]},
    )  # fmt: skip
    play.dry_run()
    request.getfixturevalue("authority")
    play.converge_idempotently()
    return play


@pytest.fixture(scope="module")
def account(fleet: Fleet, play: RolePlay) -> Account:
    """With a driver on the hosts that connect."""
    for host in ("deliv", "client"):
        fleet.execute(host, "apt-get", "-qq", "update")
        fleet.execute(host, "apt-get", "-qq", "install", "--yes", "python3-pika")
    return Account(fleet)


def test_it_listens_with_tls_only(fleet: Fleet, play: RolePlay) -> None:
    found = {socket for socket in listeners(fleet, "data") if socket.port != 22}
    assert {socket.port for socket in found if socket.is_local} == LOCAL
    assert {(socket.address, socket.port) for socket in found if not socket.is_local} == {
        (fleet.address("data"), PORT)
    }
    assert fleet.state("data") == "running"


def test_only_the_services_hosts_reach_it(fleet: Fleet, play: RolePlay) -> None:
    assert connects(fleet, "deliv", "data", PORT)
    assert not connects(fleet, "client", "data", PORT)


def test_deliv_has_its_queues_and_its_exchange(account: Account) -> None:
    dead = {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-delivery-limit": 3}
    answer = account.call(
        ("exchange_declare", {"exchange": "deliv.events", "exchange_type": "topic"}),
        ("basic_publish", {"exchange": "deliv.events", "routing_key": "job.a", "body": "x"}),
        ("queue_declare", {"queue": "deliv.stage", "durable": True, "arguments": dead}),
        ("basic_publish", {"exchange": "", "routing_key": "deliv.stage", "body": "x"}),
        ("queue_declare", {"queue": "deliv.stage", "passive": True}),
    )
    assert answer.startswith("ok") and "message_count=1" in answer


def test_deliv_has_nothing_else(account: Account) -> None:
    assert "403" in account.declare("other")
    assert "403" in account.call(
        ("basic_publish", {"exchange": "amq.topic", "routing_key": "a", "body": "x"})
    )
    assert "403" in account.call(("basic_get", {"queue": "amq.gen-other"}))


def test_unknown_accounts_are_refused(account: Account) -> None:
    for user, password in (("deliv", "wrong"), ("guest", "guest"), ("", "")):
        refused = account.declare("deliv.a", user=user, password=password)
        assert "ACCESS_REFUSED" in refused, (user, refused)
    assert "NOT_ALLOWED" in account.declare("deliv.a", vhost="/")


def test_there_is_no_other_account(fleet: Fleet, play: RolePlay) -> None:
    listed = ("rabbitmqctl", "--silent", "--formatter", "json")
    users = json.loads(fleet.execute("data", *listed, "list_users").stdout)
    assert [(user["user"], user["tags"]) for user in users] == [("deliv", [])]
    vhosts = json.loads(fleet.execute("data", *listed, "list_vhosts").stdout)
    assert [vhost["name"] for vhost in vhosts] == ["deliv"]


def test_without_tls_it_does_not_answer(account: Account) -> None:
    assert not account.declare("deliv.a", tls=False).startswith("ok")
    assert not connects(account.fleet, "deliv", "data", 5672)


def test_the_broker_authenticates_itself(fleet: Fleet, account: Account) -> None:
    refused = account.declare("deliv.a", ca="/etc/ssl/certs/ca-certificates.crt")
    assert "CERTIFICATE_VERIFY_FAILED" in refused or "AMQPConnectionError" in refused


def test_publishers_are_blocked_before_memory_or_disk_run_out(fleet: Fleet, play: RolePlay) -> None:
    output = fleet.execute(
        "data", "rabbitmqctl", "--silent", "--formatter", "json", "status"
    ).stdout
    status = json.loads(output)
    assert status["disk_free_limit"] == 10**9
    assert status["vm_memory_high_watermark_setting"] == {"relative": 0.4}


def test_it_is_restarted_when_killed(fleet: Fleet, account: Account) -> None:
    fleet.execute("data", "systemctl", "kill", "--signal=KILL", "rabbitmq-server")
    wait(lambda: connects(fleet, "deliv", "data", PORT), "RabbitMQ is back", 90)
    wait(lambda: account.declare("deliv.b").startswith("ok"), "its queues are back", 60)


def stop_working(fleet: Fleet) -> None:
    """As a full disk may do to it: its database is gone, and systemd sees a running service."""
    fleet.execute("data", "rabbitmqctl", "--silent", "eval", "application:stop(mnesia).")
    failed = fleet.execute("data", *VHOSTS, check=False)
    assert "no_exists" in failed.stdout + failed.stderr
    assert fleet.execute("data", "systemctl", "is-active", "rabbitmq-server").stdout == "active\n"


def works(fleet: Fleet) -> bool:
    return fleet.execute("data", *VHOSTS, check=False).returncode == 0


def test_it_is_restarted_when_dead_inside(fleet: Fleet, account: Account) -> None:
    """By the check that its timer starts every minute."""
    process = _main_process(fleet)
    stop_working(fleet)
    wait(lambda: _main_process(fleet) != process, "RabbitMQ is restarted", 600)
    wait(lambda: works(fleet), "RabbitMQ works", 300)
    wait(lambda: account.declare("deliv.b").startswith("ok"), "its queues are back", 60)
    wait(lambda: fleet.state("data") == "running", "the check has succeeded", 300)
    limits = ("-P", "StartLimitBurst", "-P", "StartLimitIntervalUSec")
    shown = fleet.execute("data", "systemctl", "show", *limits, "deliv-rabbitmq-restart").stdout
    assert set(shown.split()) == {"2", "10min"}


def test_a_run_of_the_role_restarts_it_too(fleet: Fleet, play: RolePlay, account: Account) -> None:
    fleet.execute("data", "systemctl", "stop", "deliv-rabbitmq-check.timer")
    stop_working(fleet)
    play.converge()
    assert works(fleet)
    wait(lambda: account.declare("deliv.b").startswith("ok"), "its queues are back", 60)
    timers = fleet.execute("data", "systemctl", "is-active", "deliv-rabbitmq-check.timer").stdout
    assert timers == "active\n"


def test_a_full_disk(fleet: Fleet, account: Account) -> None:
    """However it ends there: with room again it works by itself, with what it had."""
    with small_disk(fleet, "data", "rabbitmq-server", DATA, "150m"):
        wait(lambda: account.declare("deliv.b").startswith("ok"), "RabbitMQ is up", 90)
        fill(fleet, "data", DATA)
        refused = fleet.execute("data", "rabbitmqctl", "add_vhost", "more", check=False)
        assert refused.returncode
        clear(fleet, "data", DATA)
        wait(lambda: works(fleet), "RabbitMQ works", 600)
        wait(lambda: account.declare("deliv.b").startswith("ok"), "its queues are back", 60)
    wait(lambda: account.declare("deliv.b").startswith("ok"), "RabbitMQ is up", 90)


def test_it_starts_when_its_host_reboots(fleet: Fleet, account: Account) -> None:
    fleet.reboot("data")
    wait(lambda: connects(fleet, "deliv", "data", PORT), "RabbitMQ is back", 90)
    kept = ("queue_declare", {"queue": "deliv.stage", "passive": True})
    wait(lambda: "message_count=1" in account.call(kept), "its queues are back", 60)
    assert not connects(fleet, "client", "data", PORT)
    assert {socket.port for socket in listeners(fleet, "data") if socket.is_local} == LOCAL


def test_secrets_are_its_own(fleet: Fleet, play: RolePlay, account: Account) -> None:
    files = (DEFINITIONS, "/var/lib/rabbitmq/.erlang.cookie", "/etc/rabbitmq/tls/hostkey.pem")
    shown = fleet.execute("data", "stat", "-c", "%A %U:%G", *files).stdout.splitlines()
    assert shown == ["-rw-r----- root:rabbitmq", *["-r-------- rabbitmq:rabbitmq"] * 2]
    digest = json.loads((fleet.root("data") / DEFINITIONS[1:]).read_text())["users"][0]
    assert PASSWORD not in play.output
    assert digest["password_hash"] not in play.output
    assert secrets_at_rest(fleet, "data", PASSWORD) == set()
    assert secrets_at_rest(fleet, "deliv", PASSWORD) == set()


def test_what_changes_takes_effect_without_a_restart(
    fleet: Fleet, play: RolePlay, account: Account, authority: pki.Authority
) -> None:
    process = _main_process(fleet)
    fleet.execute("data", "rabbitmqctl", "--silent", "add_user", "guest", "guest")
    renewed = certify(fleet, "data", authority)
    play.vary(rabbitmq_password="new-8b1c", rabbitmq_further_sources=[fleet.address("client")])
    play.converge("--diff")
    assert "ACCESS_REFUSED" in account.declare("deliv.b")
    assert account.declare("deliv.b", password="new-8b1c").startswith("ok")
    assert account.declare("deliv.b", password="new-8b1c", origin="client").startswith("ok")
    assert served_certificate(fleet, "deliv", "data", PORT) == renewed.certificate
    assert "guest" not in fleet.execute("data", "rabbitmqctl", "--silent", "list_users").stdout
    assert "new-8b1c" not in play.output
    assert _main_process(fleet) == process


def _main_process(fleet: Fleet) -> str:
    return fleet.execute("data", "systemctl", "show", "-P", "MainPID", "rabbitmq-server").stdout

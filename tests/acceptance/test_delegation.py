"""Users delegate to deliv as they would to FTS, and their products are copied as theirs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import fts3.rest.client.easy as fts3
import pytest
import yaml
from fts3.rest.client.exceptions import ClientError
from support.posing import Caller
from support.running_stack import Answer, Stack, Target, brought_up, frozen, until

from acceptance.test_audit_log import audited, holds

pytestmark = [
    pytest.mark.own_stack,
    # the client leaves the files it reads certificates from to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # and asks for the time without a zone
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """What is delegated here must not change what other tests see."""
    with brought_up() as stack:
        yield stack


@pytest.fixture
def target(own: Stack) -> Target:
    return own.target()


def context(stack: Stack, user: str = "alice", url: str = "") -> Any:
    who = stack.user(user)
    return fts3.Context(url or stack.url, who.proxy, who.proxy, capath=stack.ca)


def delegate(stack: Stack, user: str = "alice", hours: float = 8) -> str:
    lifetime = timedelta(hours=hours)
    return str(fts3.delegate(context(stack, user), lifetime=lifetime, force=True))


def submit(stack: Stack, product: str, target: Target, user: str = "alice") -> Answer:
    fields = ("-d", f"product_id={product}", "-d", f"destination_path={target.url}")
    return stack.curl("/submitTransfer", *fields, user=user)


def ended(stack: Stack, product: str, target: Target, user: str = "alice") -> dict[str, Any]:
    with stack.client(user) as client:
        return client.wait(client.submit(product, target.url), timeout=400)


def whoami(stack: Stack, user: str = "alice") -> dict[str, Any]:
    return stack.curl("/whoami", user=user).document


def fts_owner(stack: Stack, job: dict[str, Any], seen_by: str) -> str:
    fts = context(stack, seen_by, stack.testbed["fts_url"])
    return str(fts3.get_job_status(fts, job["fts_jobid"])["user_dn"])


def expire(stack: Stack, user: str, expression: str) -> None:
    """Have the credential end at another time."""
    sql = f"UPDATE delegations SET expires = {expression} WHERE dn = %s"  # noqa: S608 - a test's own
    stack.query(sql, stack.user(user).dn)


@contextmanager
def policy(stack: Stack, user: str, **changes: Any) -> Iterator[None]:
    """Another rule for a user, for a while."""
    path = stack.directory / "policy.yaml"
    before = path.read_text(encoding="utf-8")
    document = yaml.safe_load(before)
    for rule in document["rules"]:
        if rule["dn"] == stack.user(user).dn:
            rule.update(changes)
    try:
        put_in_force(stack, path, yaml.safe_dump(document))
        yield
    finally:
        put_in_force(stack, path, before)


def put_in_force(stack: Stack, path: Path, text: str) -> None:
    seen = policy_changes(stack)
    path.write_text(text, encoding="utf-8")
    os.kill(stack.testbed["pids"]["deliv@1"], signal.SIGHUP)
    until(lambda: policy_changes(stack) > seen, "the policy is in force")


def policy_changes(stack: Stack) -> int:
    log = (stack.directory / "log" / "audit.log").read_text(encoding="utf-8")
    return log.count('"event":"policy"')


# --- the official client


def test_before_anything_is_delegated(own: Stack) -> None:
    me = fts3.whoami(context(own, "bob"))
    assert me["user_dn"] == own.user("bob").dn
    assert me["roles"] == ["submitter"]
    assert own.curl(f"/delegation/{me['delegation_id']}", user="bob").body == b"null"


def test_the_official_client_delegates(own: Stack) -> None:
    given = delegate(own, hours=8)
    assert given == whoami(own)["delegation_id"]
    document = own.curl(f"/delegation/{given}").document
    assert document["voms_attrs"] == [""]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", document["termination_time"])
    assert whoami(own)["termination_time"] == document["termination_time"]
    # it delegates again only when little is left, as it would to FTS
    ((before,),) = own.query("SELECT version FROM delegations WHERE delegation_id = %s", given)
    fts3.delegate(context(own), lifetime=timedelta(hours=8))
    ((after,),) = own.query("SELECT version FROM delegations WHERE delegation_id = %s", given)
    assert before == after


@pytest.mark.parametrize("script", ["fts-rest-whoami", "fts-rest-delegate"])
def test_the_official_commands(own: Stack, script: str) -> None:
    """With a certificate and its key, from which no proxy was made."""
    bob = own.user("bob")
    done = subprocess.run(
        [
            SCRIPTS / script, "-s", own.url, "--capath", own.ca,
            "--cert", bob.cert, "--key", bob.key, "-v",
        ],
        env={"PATH": "/usr/bin:/bin", "HOME": str(own.directory)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    if script == "fts-rest-delegate":
        assert own.query("SELECT 1 FROM delegations WHERE dn = %s", bob.dn)
        own.curl(f"/delegation/{whoami(own, 'bob')['delegation_id']}", "-X", "DELETE", user="bob")


# --- whose copy it is


def test_a_user_who_has_delegated(own: Stack, target: Target) -> None:
    delegate(own)
    job = ended(own, "synthetic-3000", target)
    assert (job["status"], job["copied_as"]) == ("SUCCESS", "user")
    assert fts_owner(own, job, "alice") == own.user("alice").dn
    assert target.holds_synthetic(3000)


def test_a_user_who_has_not(own: Stack, target: Target) -> None:
    job = ended(own, "synthetic-3001", target, "bob")
    assert (job["status"], job["copied_as"]) == ("SUCCESS", "service")


def test_the_policy_decides(own: Stack, target: Target) -> None:
    delegate(own)
    with policy(own, "alice", copy_as="service"):
        assert ended(own, "synthetic-3002", target)["copied_as"] == "service"
    with policy(own, "bob", copy_as="user"):
        answer = submit(own, "synthetic-3003", target, "bob")
        assert answer.status == 403
        assert "fts-rest-delegate" in answer.document["msg"]
        assert holds(audited(own, answer), outcome="refused", action="submit")
        delegate(own, "bob", hours=0.5)
        answer = submit(own, "synthetic-3003", target, "bob")
        assert answer.status == 403
        assert "less than 1 h left" in answer.document["msg"]
        delegate(own, "bob")
        job = ended(own, "synthetic-3003", target, "bob")
        assert (job["status"], job["copied_as"]) == ("SUCCESS", "user")
        own.curl(f"/delegation/{whoami(own, 'bob')['delegation_id']}", "-X", "DELETE", user="bob")


def test_a_copy_as_the_user_is_cancelled(own: Stack, target: Target) -> None:
    delegate(own)
    given = f"/delegation/{whoami(own)['delegation_id']}"
    with frozen(own, "gridftp-destination"):
        job_id = submit(own, "synthetic-3009", target).document["job_id"]
        until(lambda: own.copied_by_fts(job_id), "the copy has begun")
        in_use = own.curl(given, "-X", "DELETE")
        assert in_use.status == 409
        assert "cancel" in in_use.document["msg"]
        assert own.curl("/cancelTransfer", "-d", f"job_id={job_id}").status in {200, 202}
        with own.client() as client:
            assert client.wait(job_id, timeout=400)["status"] == "CANCELLED"
    assert held_by_fts(own)
    assert own.curl(given, "-X", "DELETE").status == 204
    assert not held_by_fts(own)
    assert own.curl(given, "-X", "DELETE").status == 404


def held_by_fts(stack: Stack, user: str = "alice") -> bool:
    fts = context(stack, user, stack.testbed["fts_url"])
    return json.loads(fts.get(f"/delegation/{fts3.whoami(fts)['delegation_id']}")) is not None


def test_a_delegation_is_forgotten_while_fts_is_out(own: Stack, target: Target) -> None:
    """The answer says that FTS keeps what it has; deliv keeps nothing to ask it with later."""
    delegate(own)
    assert ended(own, "synthetic-52001", target)["copied_as"] == "user"
    given = f"/delegation/{whoami(own)['delegation_id']}"
    own.control("kill", "fts")
    try:
        answer = own.curl(given, "-X", "DELETE")
    finally:
        own.control("start", "fts")
    assert answer.status == 200
    assert "an FTS keeps its proxy until that expires" in answer.document["msg"]
    assert whoami(own)["termination_time"] is None
    assert held_by_fts(own)


def test_a_restart_forgets_nothing(own: Stack, target: Target) -> None:
    delegate(own)
    with own.client() as client:
        job_id = client.submit("slow-2-synthetic-3004", target.url)
        own.control("kill", "deliv@1")
        own.control("start", "deliv@1")
        until(lambda: own.ready().get("status") == "ready", "deliv is ready again")
        job = client.wait(job_id, timeout=400)
    assert (job["status"], job["copied_as"]) == ("SUCCESS", "user")


# --- the end of a credential


def test_its_user_is_told_in_time(own: Stack, target: Target) -> None:
    delegate(own)
    assert "warning" not in whoami(own)
    job_id = submit(own, "silent-synthetic-3005", target).document["job_id"]
    other = submit(own, "silent-synthetic-3006", target, "bob").document["job_id"]
    assert "warning" not in own.curl(f"/transferStatus?job_id={job_id}").document
    expire(own, "alice", "NOW(6) + INTERVAL 90 MINUTE")
    assert "expires at" in whoami(own)["warning"]
    assert "delegate again" in own.curl(f"/transferStatus?job_id={job_id}").document["warning"]
    assert "warning" not in own.curl(f"/transferStatus?job_id={other}", user="bob").document
    notified = "SELECT 1 FROM delegations WHERE dn = %s AND told IS NOT NULL"
    until(lambda: own.query(notified, own.user("alice").dn), "an event names it")
    log = own.directory / "log" / "deliv@1.log"
    said = "a delegated credential expires"
    until(lambda: said in log.read_text(encoding="utf-8"), "the log tells of it")
    delegate(own)
    assert "warning" not in whoami(own)
    assert "warning" not in own.curl(f"/transferStatus?job_id={job_id}").document
    for job, user in ((job_id, "alice"), (other, "bob")):
        own.curl("/cancelTransfer", "-d", f"job_id={job}", user=user)


def test_what_has_expired_is_wiped_and_copies_nothing(own: Stack, target: Target) -> None:
    delegate(own)
    caller = Caller(own)
    job_id = submit(own, "silent-synthetic-3007", target).document["job_id"]
    fields = caller.staged(job_id)
    expire(own, "alice", "NOW(6) - INTERVAL 1 SECOND")
    left = "SELECT 1 FROM delegations WHERE dn = %s"
    until(lambda: not own.query(left, own.user("alice").dn), "the key is wiped")
    assert whoami(own)["termination_time"] is None
    warning = own.curl(f"/transferStatus?job_id={job_id}").document["warning"]
    assert "delegate again" in warning
    assert caller.report(fields).status == 200

    def waits() -> bool:
        job = own.curl(f"/transferStatus?job_id={job_id}").document
        return job.get("waiting_for") == "delegation"

    until(waits, "it waits for another one")
    assert not target.directory.exists()
    own.curl("/cancelTransfer", "-d", f"job_id={job_id}")


def test_jobs_that_wait_for_a_delegation_go_on_with_it(own: Stack, target: Target) -> None:
    """It ended before it was their turn, so that nothing is staged for them."""
    delegate(own)
    with held_back(own):
        for size in range(3020, 3030):
            assert submit(own, f"synthetic-{size}", target).status == 202
        expire(own, "alice", "NOW(6) - INTERVAL 1 SECOND")
    waiting = "SELECT COUNT(*) FROM jobs WHERE waiting_for = 'delegation' AND status = 'SUBMITTED'"
    until(lambda: own.query(waiting) == [(10,)], "they wait")
    assert not target.directory.exists()
    delegate(own)
    going = "SELECT COUNT(*) FROM jobs WHERE destination_path = %s AND status <> 'SUCCESS'"
    until(lambda: own.query(going, target.url) == [(0,)], "all are delivered")
    assert len(target.names()) == 10


@contextmanager
def held_back(stack: Stack) -> Iterator[None]:
    """No job is admitted, as another transaction has the lock of admissions."""
    with stack.as_root() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT fence FROM leases WHERE name = 'admission' FOR UPDATE")
        yield
        cursor.execute("ROLLBACK")


def test_a_job_whose_user_delegates_again_in_time(own: Stack, target: Target) -> None:
    delegate(own)
    job_id = submit(own, "slow-3-synthetic-3008", target).document["job_id"]
    expire(own, "alice", "NOW(6) - INTERVAL 1 SECOND")
    until(lambda: whoami(own)["termination_time"] is None, "it has expired")
    delegate(own)
    with own.client() as client:
        job = client.wait(job_id, timeout=400)
    assert (job["status"], job["copied_as"]) == ("SUCCESS", "user")


# --- what is refused


def request_of(stack: Stack, user: str) -> tuple[str, bytes]:
    given = whoami(stack, user)["delegation_id"]
    return given, stack.curl(f"/delegation/{given}/request", user=user).body


@pytest.mark.parametrize("body", ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END"])
def test_what_is_no_proxy(own: Stack, body: str) -> None:
    given, _ = request_of(own, "bob")
    answer = own.curl(
        f"/delegation/{given}/credential", "-X", "PUT", "--data-binary", body, user="bob"
    )
    assert (answer.status, answer.document["error"]) == (400, True)
    assert answer.document["message"] == answer.document["msg"]
    assert answer.document["status"] == "400 Bad Request"


def test_a_proxy_that_was_not_asked_for(own: Stack) -> None:
    """One that the user has made for themself: deliv has not its key."""
    given, _ = request_of(own, "bob")
    proxy = Path(own.user("bob").proxy).read_text(encoding="ascii")
    certificates = re.findall(r"-----BEGIN CERT.*?END CERT[^\n]+\n", proxy, re.DOTALL)
    options = ("-X", "PUT", "--data-binary", "".join(certificates))
    bob = own.user("bob")
    answer = own.curl(
        f"/delegation/{given}/credential", *options, "--cert", bob.cert, "--key", bob.key, user=None
    )
    assert answer.status == 400
    assert "was not asked for" in answer.document["msg"]


def test_another_users_delegation(own: Stack) -> None:
    given = delegate(own)
    for path, method in (
        ("", "GET"),
        ("", "DELETE"),
        ("/request", "GET"),
        ("/credential", "PUT"),
    ):
        answer = own.curl(f"/delegation/{given}{path}", "-X", method, "-d", "", user="bob")
        assert answer.status == 403
        assert holds(audited(own, answer), outcome="refused", action="delegate")
    with pytest.raises(ClientError):
        fts3.delegate(context(own, "stager"), lifetime=timedelta(hours=8))
    assert own.curl(f"/delegation/{given}").document["termination_time"]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_methods_that_are_not_there(own: Stack, method: str) -> None:
    answer = own.curl("/whoami", "-X", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


# --- the key


def test_the_key_never_leaves(own: Stack) -> None:
    """Neither in an answer, nor in a log, nor as it is in the database."""
    given = delegate(own)
    answers = [
        own.curl(path).body
        for path in ("/whoami", f"/delegation/{given}", f"/delegation/{given}/request", "/")
    ]
    rows = own.query("SELECT * FROM delegations")
    stored = b"".join(
        value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row
    )
    logs = b"".join(path.read_bytes() for path in (own.directory / "log").iterdir())
    tables = b"".join(
        path.read_bytes() for path in (own.directory / "mariadb").rglob("delegations.ibd")
    )
    assert tables
    for text in (*answers, stored, logs, tables):
        assert b"PRIVATE KEY" not in text
    (name,) = {row[0] for row in rows if row[1] == own.user("alice").dn}
    assert name == given

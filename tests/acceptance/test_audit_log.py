"""The audit log of the running service: who was let do what, and who was not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.running_stack import Answer, Stack, Target, until

CODE = "0123456789abcdef0123456789abcdef"


def audit_file(stack: Stack) -> Path:
    settings = yaml.safe_load(Path(stack.testbed["config"]).read_text(encoding="utf-8"))
    return Path(settings["audit"]["file"])


def entries(file: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in file.read_text(encoding="ascii").splitlines()]


def audited(stack: Stack, answer: Answer) -> dict[str, Any]:
    """The one line on this request; it is written when the answer has come."""
    wanted = answer.headers["x-request-id"]
    (found,) = [e for e in entries(audit_file(stack)) if e.get("request_id") == wanted]
    assert (found["log"], found["event"], found["status"]) == ("audit", "request", answer.status)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", found["peer"])
    assert found["outcome"] == ("allowed" if answer.status < 400 else found["outcome"])
    return found


def submit(stack: Stack, url: str, product_id: str = "005") -> Answer:
    return stack.curl("/submitTransfer", "-d", f"product_id={product_id}&destination_path={url}")


def holds(entry: dict[str, Any], **expected: Any) -> bool:
    return {name: entry.get(name) for name in expected} == expected


def test_a_submission(stack: Stack, target: Target) -> None:
    answer = submit(stack, target.url)
    entry, alice = audited(stack, answer), stack.user("alice").dn
    assert holds(entry, outcome="allowed", action="submit", call="POST /submitTransfer", dn=alice)
    assert holds(entry, job_id=answer.document["job_id"], product_id="005", limited=False)
    assert holds(entry, destination_host="127.0.0.1", reason=None)
    assert entry["subject"].startswith(f"{alice}/CN=")
    assert entry["rule"].endswith(alice)


def test_a_submission_that_the_policy_refuses(stack: Stack) -> None:
    entry = audited(stack, submit(stack, "gsiftp://elsewhere.test/home/alice"))
    assert holds(entry, outcome="refused", action="submit", destination_host="elsewhere.test")
    assert "may not deliver to elsewhere.test" in entry["reason"]


def test_a_strangers_look_and_hand_at_a_job(stack: Stack, target: Target) -> None:
    job_id = submit(stack, target.url).document["job_id"]
    alice, bob = stack.user("alice").dn, stack.user("bob").dn
    look = stack.curl(f"/transferStatus?job_id={job_id}", user="bob")
    hand = stack.curl("/cancelTransfer", "-d", f"job_id={job_id}", user="bob")
    for action, answer in (("status", look), ("cancel", hand)):
        entry = audited(stack, answer)
        assert holds(entry, outcome="refused", action=action, dn=bob, owner=alice, job_id=job_id)
        assert "of others" in entry["reason"]


def test_an_owner_and_an_operator(stack: Stack, target: Target) -> None:
    job_id = submit(stack, target.url, product_id="silent-synthetic-2000").document["job_id"]
    alice, operator = stack.user("alice").dn, stack.user("operator").dn
    look = audited(stack, stack.curl(f"/transferStatus?job_id={job_id}", user="operator"))
    assert holds(look, outcome="allowed", action="status", dn=operator, owner=alice, job_id=job_id)
    hand = audited(stack, stack.curl("/cancelTransfer", "-d", f"job_id={job_id}"))
    assert holds(hand, outcome="allowed", action="cancel", dn=alice, owner=alice, job_id=job_id)
    late = audited(stack, stack.curl("/cancelTransfer", "-d", f"job_id={job_id}"))
    assert holds(late, outcome="failed", status=409, dn=alice, job_id=job_id)
    assert late["reason"] == "the job has ended already: CANCELLED"


def test_the_stagers_reports(stack: Stack, target: Target) -> None:
    product = "synthetic-2107"  # no other test's: a staging is shared, and so is its report
    job_id = submit(stack, target.url, product_id=product).document["job_id"]
    with stack.client() as client:
        assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"
    (taken,) = [
        entry
        for entry in entries(audit_file(stack))
        if holds(entry, action="stage_report", job_id=job_id)
    ]
    assert holds(taken, outcome="allowed", status=200, product_id=product)
    assert taken["dn"] == stack.user("stager").dn
    forged = f"job_id={job_id}&product_id={product}&authcode={CODE}&success=true"
    for user, reason in (("stager", "access token"), ("alice", "report on staging")):
        answer = stack.curl("/doneStaging", "-d", forged, user=user)
        entry = audited(stack, answer)
        assert holds(entry, outcome="refused", action="stage_report", dn=stack.user(user).dn)
        assert reason in entry["reason"]
    assert CODE not in audit_file(stack).read_text("ascii")


def test_bad_input_and_unknown_paths(stack: Stack) -> None:
    alice = stack.user("alice").dn
    bad = audited(stack, stack.curl("/submitTransfer", "-d", "product_id=005"))
    assert holds(bad, outcome="failed", status=400, dn=alice)
    assert "destination_path is missing" in bad["reason"]
    nowhere = audited(stack, stack.curl("/admin%0a%7b", "-X", "DELETE"))
    assert holds(nowhere, outcome="failed", status=404, dn=alice, call="DELETE /admin%0a%7b")
    unknown = audited(stack, stack.curl("/transferStatus?job_id=%0a%7b%22a%22:1%7d%e2%80%ae"))
    assert holds(unknown, outcome="failed", status=404, job_id='\n{"a":1}\u202e')


def test_a_refused_handshake(stack: Stack) -> None:
    file = audit_file(stack)
    before = len(entries(file))
    with pytest.raises(subprocess.CalledProcessError):
        stack.curl("/transferStatus?job_id=1", user=None)
    (refusal,) = until(lambda: handshakes(file, before), "the refusal is on record")
    assert holds(refusal, outcome="refused", reason="PEER_DID_NOT_RETURN_A_CERTIFICATE")


def handshakes(file: Path, after: int) -> list[dict[str, Any]]:
    return [entry for entry in entries(file)[after:] if entry["event"] == "handshake"]


def test_the_services_start(stack: Stack) -> None:
    assert any(entry["event"] == "service" for entry in entries(audit_file(stack)))
    assert stack.ready()["dependencies"]["audit"]["up"] is True


def test_a_new_file_on_sighup(stack: Stack) -> None:
    """As logrotate does: move, make a new one, signal."""
    file, pid = audit_file(stack), stack.testbed["pids"]["deliv@1"]
    moved = file.with_name("audit.log.1")
    file.rename(moved)
    try:
        audited_in_old = stack.curl("/transferStatus?job_id=1").headers["x-request-id"]
        assert audited_in_old in moved.read_text("ascii")
        os.kill(pid, signal.SIGHUP)
        until(file.exists, "a new file is begun")
        assert audited(stack, stack.curl("/transferStatus?job_id=1"))["status"] == 404
    finally:
        whole = moved.read_bytes() + file.read_bytes()
        file.write_bytes(whole)  # for the other tests
        moved.unlink()

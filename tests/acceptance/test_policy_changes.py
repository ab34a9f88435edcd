"""A change of the policy counts with the next decision: on calls, and on jobs accepted before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from support import live_client
from support.posing import Caller
from support.running_stack import Stack, Target, frozen, until

from acceptance.test_audit_log import audit_file, entries
from acceptance.test_commands import deliv

BOB = "bob"


@contextmanager
def changed(stack: Stack, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[None]:
    settings = yaml.safe_load(Path(stack.testbed["config"]).read_text(encoding="utf-8"))
    path = Path(settings["policy"])
    before = path.read_text(encoding="utf-8")
    try:
        replace(path, json.dumps(change(yaml.safe_load(before))))
        yield
    finally:
        replace(path, before)


def without(dn: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda policy: {"rules": [rule for rule in policy["rules"] if rule.get("dn") != dn]}


def replace(path: Path, text: str) -> None:
    """At once, as an operator should; deliv is sent no signal."""
    written = path.with_suffix(".new")
    written.write_text(text, encoding="utf-8")
    written.replace(path)


def test_a_user_who_is_taken_out_of_the_policy(stack: Stack, target: Target) -> None:
    with stack.client(BOB) as client, stack.client("operator") as operator:
        job_id = client.submit("silent-synthetic-4321", target.url)
        client.wait(client.submit("synthetic-4322", target.url), timeout=400)
        caller = Caller(stack)
        report = caller.staged(job_id)  # which the stager itself keeps back
        with changed(stack, without(stack.user(BOB).dn)):
            form = f"product_id=005&destination_path={target.url}"
            assert stack.curl("/submitTransfer", "-d", form, user=BOB).status == 403
            assert caller.report(report).status == 200
            ended = until(
                lambda: (now := operator.status(job_id))["status"] == "ERROR" and now, "it ends"
            )
            assert ended["error_class"] == "policy"
            assert "not allowed any more: no rule lets" in ended["detailed_status"]
            until(lambda: not stack.staged_copy(job_id).exists(), "its copy is released")
        assert stack.curl("/submitTransfer", "-d", form, user=BOB).status == 202
    assert target.names() == {"synthetic-4322"}
    (entry,) = until(lambda: decisions(stack, job_id), "its audit line")
    assert (entry["outcome"], entry["dn"]) == ("refused", stack.user(BOB).dn)


def test_a_user_who_is_denied_is_out_at_once_and_an_operator_stops_what_fts_copies(
    stack: Stack, target: Target
) -> None:
    """On a connection that is open, whatever is asked; the rule that lets Bob in is still there."""
    bob = stack.user(BOB)
    context = live_client.lax_context(Path(stack.testbed["ca_file"]), Path(bob.proxy))
    port = urlsplit(stack.url).port
    assert port is not None
    with frozen(stack, "gridftp-destination"), live_client.connected(port, context) as secure:

        def ask(path: str) -> live_client.Reply:
            request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"
            return live_client.exchange(secure, request.encode())

        with stack.client(BOB) as client:
            copied = client.submit("synthetic-4323", target.url)
            waiting = client.submit("silent-synthetic-4324", target.url)
        until(lambda: stack.copied_by_fts(copied), "the copy has begun")
        assert ask("/whoami").status == 200
        with changed(stack, lambda policy: {**policy, "deny": [{"dn": bob.dn}]}):
            for path in ("/whoami", "/", "/openapi.yaml", f"/transferStatus?job_id={copied}"):
                reply = ask(path)
                assert (reply.status, reply.document["msg"]) == (
                    403,
                    f"the policy denies {bob.dn} all use of deliv",
                )
            (entry,) = [
                one
                for one in entries(audit_file(stack))
                if one.get("request_id") == reply.headers["x-request-id"]
            ]
            assert (entry["outcome"], entry["dn"]) == ("refused", bob.dn)
            assert entry["rule"] == f"deny[0] {bob.dn}"
            done = deliv(stack, "cancel", "--submitter", bob.dn, user="operator")
            assert done.returncode == 0, done.stderr
            assert copied in done.stdout
            with stack.client("operator") as client:
                for job_id in (copied, waiting):
                    assert client.wait(job_id, timeout=400)["status"] == "CANCELLED"
        assert ask("/whoami").status == 200


def decisions(stack: Stack, job_id: str) -> list[dict[str, Any]]:
    known = entries(audit_file(stack))
    return [one for one in known if (one["event"], one.get("job_id")) == ("decision", job_id)]

"""A change of the policy counts with the next decision: on calls, and on jobs accepted before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.posing import Caller
from support.running_stack import Stack, Target, until

from acceptance.test_audit_log import audit_file, entries

BOB = "bob"


@contextmanager
def without_rules_for(stack: Stack, user: str) -> Iterator[None]:
    settings = yaml.safe_load(Path(stack.testbed["config"]).read_text(encoding="utf-8"))
    path, dn = Path(settings["policy"]), stack.user(user).dn
    before = path.read_text(encoding="utf-8")
    rules = [rule for rule in yaml.safe_load(before)["rules"] if rule.get("dn") != dn]
    try:
        replace(path, json.dumps({"rules": rules}))
        yield
    finally:
        replace(path, before)


def replace(path: Path, text: str) -> None:
    """At once, as an operator should; deliv is sent no signal."""
    written = path.with_suffix(".new")
    written.write_text(text, encoding="utf-8")
    written.replace(path)


@pytest.mark.timeout(300)
def test_a_user_who_is_taken_out_of_the_policy(stack: Stack, target: Target) -> None:
    with stack.client(BOB) as client, stack.client("operator") as operator:
        job_id = client.submit("silent-synthetic-4321", target.url)
        client.wait(client.submit("synthetic-4322", target.url), timeout=120)
        caller = Caller(stack)
        report = caller.staged(job_id)  # which the stager itself keeps back
        with without_rules_for(stack, BOB):
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


def decisions(stack: Stack, job_id: str) -> list[dict[str, Any]]:
    known = entries(audit_file(stack))
    return [one for one in known if (one["event"], one.get("job_id")) == ("decision", job_id)]

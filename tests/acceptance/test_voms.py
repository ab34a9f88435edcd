"""Users whom the policy knows by a VOMS attribute alone, on the service's own port."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import fts3.rest.client.easy as fts3
import pytest
import yaml
from deliv_testbed import pki
from deliv_testbed.pki import Credential
from support import live_client, voms_tools
from support.another_instance import Instance, another_instance
from support.attribute_certificates import PRODUCTION, Server, carried, carrying, carrying_raw
from support.credentials import ALICE, Grid, full
from support.live_client import Reply
from support.running_stack import Stack, Target, until
from support.voms_kinds import BOTH, KINDS, Kind

from deliv.client import Client

pytestmark = [
    # the FTS client leaves files to the garbage collector, and asks for the time without a zone
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

POLICY = {"rules": [{"fqan": PRODUCTION, "roles": ["submitter"], "destinations": ["127.0.0.1"]}]}
SUBMIT = "POST /submitTransfer HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}"
# The service of this test is called 127.0.0.1, and the table is for deliv.example.org.
ELSEWHERE = "an AC for this host"


@dataclass(frozen=True, kw_only=True)
class Gate:
    instance: Instance
    server: Server
    directory: Path

    def file(self, credential: Credential) -> str:
        file = self.directory / "client.pem"
        pki.write(file, credential.proxy_pem(), mode=0o600)
        return str(file)

    def send(self, credential: Credential, request: str) -> Reply:
        ca_file = Path(self.instance.stack.testbed["ca_file"])
        context = live_client.lax_context(ca_file, Path(self.file(credential)))
        with live_client.connected(self.instance.port, context) as secure:
            return live_client.exchange(secure, request.encode())

    def whoami(self, credential: Credential) -> dict[str, Any]:
        return self.send(credential, "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n").document

    def submit(self, credential: Credential, target: Target) -> Reply:
        body = f"product_id=synthetic-5001&destination_path={target.url}"
        return self.send(credential, SUBMIT.format(len(body), body))

    def look_again(self) -> None:
        os.kill(self.instance.process.pid, signal.SIGHUP)

    def audited(self, reply: Reply) -> dict[str, Any]:
        """The audit log's line on a request."""
        request_id = reply.headers["x-request-id"]
        (entry,) = [one for one in self.instance.audit() if one.get("request_id") == request_id]
        return entry


@pytest.fixture(scope="module")
def gate(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """An instance that trusts the grid of tests/support/credentials.py and a VOMS server there."""
    directory = tmp_path_factory.mktemp("voms")
    grid, policy = Grid.create(directory / "certificates"), directory / "policy.yaml"
    for file in Path(stack.ca).iterdir():
        shutil.copy(file, grid.directory)
    policy.write_text(yaml.safe_dump(POLICY), encoding="utf-8")
    server = Server.create(grid, directory / "vomsdir")
    settings = {
        "ca_directory": str(grid.directory),
        "policy": str(policy),
        "vomsdir": str(server.vomsdir),
    }
    with with_rules(stack), another_instance(stack, directory, **settings) as instance:
        yield Gate(instance=instance, server=server, directory=directory)


@contextmanager
def with_rules(stack: Stack) -> Iterator[None]:
    """Instances share their jobs, so they need to agree on them."""
    path = stack.directory / "policy.yaml"
    before = path.read_text(encoding="utf-8")
    rules = yaml.safe_load(before)["rules"] + POLICY["rules"]
    try:
        replace(path, yaml.safe_dump({"rules": rules}))
        yield
    finally:
        replace(path, before)


def replace(path: Path, text: str) -> None:
    written = path.with_suffix(".new")
    written.write_text(text, encoding="utf-8")
    written.replace(path)


@pytest.fixture
def proxy(gate: Gate, tmp_path: Path) -> Credential:
    """Made by VOMS's own tool."""
    return voms_tools.faked(tmp_path, gate.server, voms_tools.holder(gate.server))


def test_an_attribute_lets_a_user_deliver(gate: Gate, proxy: Credential, target: Target) -> None:
    file, ca = gate.file(proxy), gate.instance.stack.ca
    with Client(gate.instance.url, file, file, ca) as client:
        job = client.wait(client.submit("synthetic-5001", target.url), timeout=400)
    assert (job["status"], job["submitter"]) == ("SUCCESS", ALICE)
    assert target.holds_synthetic(5001)
    (entry,) = [one for one in gate.instance.audit() if one.get("action") == "submit"]
    assert (entry["dn"], entry["rule"]) == (ALICE, f"rules[0] {PRODUCTION}")


def test_the_same_user_without_an_attribute_is_refused(gate: Gate, target: Target) -> None:
    plain = full(voms_tools.holder(gate.server))
    reply = gate.submit(plain, target)
    assert reply.status == 403
    assert gate.audited(reply)["reason"] == f"no rule lets {ALICE} submit transfers"


def test_a_role_that_the_user_writes_in_is_refused(gate: Gate, target: Target) -> None:
    """With the reason for the user and for the audit log."""
    holder = voms_tools.holder(gate.server)
    member = carried(gate.server.ac(holder, fqans=["/skao/meerkat/Role=operations"]))
    reply = gate.submit(carrying_raw(holder, member), target)
    assert (reply.status, gate.audited(reply)["outcome"]) == (403, "refused")
    forged = member.replace(b"operations", b"production")
    reply = gate.submit(carrying_raw(holder, forged), target)
    entry = gate.audited(reply)
    assert (reply.status, entry["outcome"], entry["dn"]) == (403, "refused", ALICE)
    assert entry["reason"] == reply.document["msg"]
    assert entry["reason"].endswith(
        "; your VOMS attributes do not count: VO skao: its signature is wrong"
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind(gate: Gate, target: Target, kind: Kind) -> None:
    try:
        credential = kind.make(gate.server, voms_tools.holder(gate.server))
        me, reply = gate.whoami(credential), gate.submit(credential, target)
    finally:
        gate.server.grid.install()
    fqans = () if kind.name == ELSEWHERE else kind.fqans
    assert me["user_dn"] == ALICE
    assert tuple(me["voms_cred"]) == fqans
    admitted = PRODUCTION in fqans and not me["limited"]
    assert reply.status == (202 if admitted else 403)
    if kind.reason:
        assert re.search(kind.reason, me["voms_refused"])
    if kind.reason and not admitted:
        assert re.search(kind.reason, gate.audited(reply)["reason"])


def test_whoami_and_a_delegated_credential_show_attributes(gate: Gate, proxy: Credential) -> None:
    """Through the official FTS client."""
    file, ca = gate.file(proxy), gate.instance.stack.ca
    context = fts3.Context(gate.instance.url, file, file, capath=ca)
    me = fts3.whoami(context)
    assert (tuple(me["voms_cred"]), me["vos"], me["roles"]) == (BOTH, ["skao"], ["submitter"])
    assert len(me["vos_id"]) == 1
    assert "voms_refused" not in me
    given = fts3.delegate(context, lifetime=timedelta(hours=1), force=True)
    delegated = json.loads(context.get(f"/delegation/{given}"))
    assert tuple(delegated["voms_attrs"]) == BOTH


def test_a_server_that_is_taken_out_counts_no_more(gate: Gate) -> None:
    """On the connections that are open, as soon as deliv looks; and again when it is back."""
    holder = voms_tools.holder(gate.server)
    credential = carrying(holder, gate.server.ac(holder))
    file = next(gate.server.vomsdir.glob("skao/*.lsc"))
    content = file.read_bytes()
    request = b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n"
    ca_file = Path(gate.instance.stack.testbed["ca_file"])
    context = live_client.lax_context(ca_file, Path(gate.file(credential)))
    with live_client.connected(gate.instance.port, context) as secure:

        def fqans() -> list[str]:
            return live_client.exchange(secure, request).document["voms_cred"]

        assert fqans() == list(BOTH)
        try:
            file.unlink()
            gate.look_again()
            until(lambda: fqans() == [], "the server counts no more")
        finally:
            file.write_bytes(content)
            gate.look_again()
        until(lambda: fqans() == list(BOTH), "the server counts again")

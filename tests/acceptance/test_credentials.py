"""Every kind of credential against the running service: its answer, and the audit log's line."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from deliv_testbed import pki
from deliv_testbed.pki import Credential
from support import live_client
from support.another_instance import Instance, another_instance
from support.credential_kinds import KINDS, Kind
from support.credentials import ALICE, Grid, presented
from support.live_client import Reply
from support.running_stack import Stack, until
from support.stricter_than_globus import STRICTER

STATUS = b"GET /transferStatus?job_id=1 HTTP/1.1\r\nHost: x\r\n\r\n"  # 404 for whoever gets so far
BODY = b"product_id=005&destination_path=gsiftp://127.0.0.1/home/alice"
SUBMIT = (
    b"POST /submitTransfer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
)
POLICY = {"rules": [{"dn": ALICE, "roles": ["submitter"], "destinations": ["127.0.0.1"]}]}
PRESENTABLE = [kind for kind in KINDS if not kind.unloadable]


@dataclass(frozen=True, kw_only=True)
class Gate:
    instance: Instance
    grid: Grid
    directory: Path
    table: list[str]

    def attempt(
        self, credential: Credential | None, request: bytes
    ) -> tuple[Reply | None, dict[str, Any]]:
        """The answer, None when the handshake was refused, and the audit log's line on it."""
        port, before = self.instance.port, len(self.instance.audit())
        with socket.create_connection(("127.0.0.1", port), live_client.TIMEOUT) as plain:
            peer = f"127.0.0.1:{plain.getsockname()[1]}"
            try:
                with self._context(credential).wrap_socket(
                    plain, server_hostname="localhost"
                ) as secure:
                    reply = live_client.exchange(secure, request)
            except OSError:
                reply = None
        lines = until(lambda: self._audited(peer, before), "it is on record")
        return reply, lines[0]

    def _context(self, credential: Credential | None) -> Any:
        file = self.directory / "client.pem"
        if credential is not None:
            pki.write(file, credential.proxy_pem(), mode=0o600)
        ca_file = Path(self.instance.stack.testbed["ca_file"])
        return live_client.lax_context(ca_file, file if credential else None)

    def _audited(self, peer: str, before: int) -> list[dict[str, Any]]:
        """Of the lines after the first `before`: an earlier caller may have had the same port."""
        lines = self.instance.audit()[before:]
        return [entry for entry in lines if entry.get("peer") == peer]


@pytest.fixture(scope="module")
def gate(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """An instance that trusts the grid of support/credentials.py beside the stack's own CA."""
    directory = tmp_path_factory.mktemp("gate")
    grid, policy = Grid.create(directory / "certificates"), directory / "policy.yaml"
    for file in Path(stack.ca).iterdir():
        shutil.copy(file, grid.directory)
    policy.write_text(yaml.safe_dump(POLICY), encoding="utf-8")
    settings = {"ca_directory": str(grid.directory), "policy": str(policy)}
    with another_instance(stack, directory, **settings) as instance:
        yield Gate(instance=instance, grid=grid, directory=directory, table=[])


@pytest.mark.parametrize("kind", PRESENTABLE, ids=lambda kind: kind.name)
def test_every_kind(gate: Gate, kind: Kind) -> None:
    credential = kind.make(gate.grid)
    reply, entry = gate.attempt(credential, STATUS)
    if kind.accepted:
        assert reply is not None
        assert reply.status == 404
        assert (entry["dn"], entry["limited"]) == (kind.dn, kind.limited)
    elif kind.handshake is not None:
        assert reply is None
        assert (entry["event"], entry["outcome"]) == ("handshake", "refused")
        assert re.search(kind.handshake, entry["reason"], re.IGNORECASE)
    else:
        assert reply is not None
        assert (reply.status, entry["outcome"]) == (403, "refused")
        assert reply.document["msg"] == entry["reason"]
        assert re.search(kind.reason or "", entry["reason"])
        assert not {"dn", "subject"} & entry.keys()
    if not kind.accepted:
        assert entry.get("unverified_subject") == presented(credential)
    gate.table.append(row(kind, entry))


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.limited], ids=lambda kind: kind.name
)
def test_a_limited_proxy_looks_and_does_not_act(gate: Gate, kind: Kind) -> None:
    reply, entry = gate.attempt(kind.make(gate.grid), SUBMIT)
    assert reply is not None
    assert (reply.status, entry["outcome"], entry["action"]) == (403, "refused", "submit")
    assert reply.document["msg"] == "a limited proxy may only look at transfers"


def row(kind: Kind, entry: dict[str, Any]) -> str:
    verdict = "accepted" if kind.accepted else "refused"
    said = entry["dn"] if kind.accepted else entry["reason"]
    beside = f"accepts: {STRICTER[kind.name]}" if kind.name in STRICTER else "agrees"
    return f"{kind.name:50.50} {verdict:9} {said:60.60} {beside}"


def test_the_table(gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    """At least 40 kinds; printed beside what a GridFTP server makes of them."""
    if len(gate.table) < len(PRESENTABLE):
        pytest.skip("only some kinds were tried")
    assert len(gate.table) >= 40
    with capsys.disabled():
        print(f"\n{'credential':50} {'deliv':9} {'in its audit log':60} GridFTP")
        print("\n".join(gate.table))

"""A CA, a user's proxy, and a scripted deliv that trusts both; the commands run against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deliv_testbed import pki

from deliv import cli
from deliv.client import Client
from integration.scripted_deliv import Reply, ScriptedDeliv, reply, server_context

ACCEPTED = reply(202, {"job_id": "J", "error": False, "msg": "accepted"})
SUCCESS = reply(200, {"job_id": "J", "status": "SUCCESS", "product_id": "005"})
STAGING = reply(200, {"job_id": "J", "status": "STAGING"}, Retry_After="0")
BUSY = reply(503, {"error": True, "msg": "full"}, Retry_After="0")
DROP = Reply(drop=True)


class World:
    """A CA, alice's proxy, and a deliv that trusts both."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = pki.Authority.create()
        self.ca = directory / "ca"
        self.authority.install(self.ca)
        self.alice = self.authority.issue(pki.user_name("alice"))
        self.proxy = self.write("alice", self.alice.proxy())
        self.deliv = self.server(self.authority.issue_host())

    def write(self, name: str, proxy: pki.Credential) -> Path:
        path = self.directory / f"{name}.proxy"
        pki.write_proxy(path, proxy)
        return path

    def server(self, credential: pki.Credential) -> ScriptedDeliv:
        context = server_context(self.directory, credential, self.ca)
        return ScriptedDeliv(context=context)

    def client(self, proxy: Path | None = None, *, patience: float = 0) -> Client:
        proxy = proxy or self.proxy
        return Client(self.deliv.url, proxy, proxy, self.ca, timeout=10, patience=patience)

    def options(self) -> list[str]:
        return ["--url", self.deliv.url, "--cert", str(self.proxy), "--ca", str(self.ca)]

    def command(self, *arguments: str) -> int:
        return cli.main([*arguments, *self.options()])


@pytest.fixture(scope="module", name="module_world")
def module_world_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("client"))
    with world.deliv.running():
        yield world


@pytest.fixture(name="world")
def world_fixture(module_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """With an environment that would mislead a client which listened to it."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "/nowhere")
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    module_world.deliv.script.clear()
    module_world.deliv.calls.clear()
    return module_world


def outcomes(*codes: int) -> Reply:
    """A job's id for each 202."""
    found = [
        {"code": code, "job_id": f"J{place}"} if code == 202 else {"code": code, "msg": "why not"}
        for place, code in enumerate(codes)
    ]
    return reply(200, {"error": False, "msg": "some", "outcomes": found})

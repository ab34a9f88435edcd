"""A CA, a user's proxy, and a scripted deliv that trusts both; the commands run against it."""

from __future__ import annotations

from pathlib import Path

from deliv_testbed import pki

from deliv import cli
from deliv.client import Client
from integration.scripted_deliv import ScriptedDeliv, server_context


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

"""Missing, expired and replaced revocation lists on the service's own port, hard and soft."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import live_client
import pytest
from another_instance import Instance, another_instance
from credentials import Grid, alice, full, user
from live_client import Reply
from running_stack import Stack, until

from deliv.testbed import pki
from deliv.testbed.pki import Credential

NOTHING = "/transferStatus?job_id=1"  # 404 for everybody who gets so far


@dataclass(frozen=True, kw_only=True)
class Gate:
    instance: Instance
    grid: Grid
    directory: Path

    def attempt(self, credential: Credential) -> Reply:
        file = self.directory / "client.pem"
        pki.write(file, credential.proxy_pem(), mode=0o600)
        ca_file = Path(self.instance.stack.testbed["ca_file"])
        context = live_client.lax_context(ca_file, file)
        return live_client.get(self.instance.port, context, NOTHING)

    def refusals(self) -> list[str]:
        return [
            entry["reason"] for entry in self.instance.audit() if entry.get("outcome") == "refused"
        ]


@contextmanager
def gate(stack: Stack, directory: Path, mode: str) -> Iterator[Gate]:
    grid = Grid.create(directory / "certificates")
    for file in Path(stack.ca).iterdir():
        shutil.copy(file, grid.directory)
    settings = {"ca_directory": str(grid.directory), "crl": mode}
    with another_instance(stack, directory, **settings) as instance:
        yield Gate(instance=instance, grid=grid, directory=directory)


@pytest.fixture(scope="module")
def hard(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with gate(stack, tmp_path_factory.mktemp("hard"), "hard") as opened:
        yield opened


@pytest.fixture(scope="module")
def soft(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with gate(stack, tmp_path_factory.mktemp("soft"), "soft") as opened:
        yield opened


def test_a_missing_list_hard(hard: Gate) -> None:
    assert hard.attempt(user(hard.grid.no_crl)).status == 0
    assert until(hard.refusals, "it is on record")[-1] == "unable to get certificate CRL"


def test_a_missing_list_soft(soft: Gate) -> None:
    assert soft.attempt(user(soft.grid.no_crl)).status == 404


def test_an_expired_list_hard(hard: Gate) -> None:
    assert hard.attempt(user(hard.grid.old_crl)).status == 0
    until(lambda: hard.refusals()[-1:] == ["CRL has expired"], "it is on record")


@pytest.mark.parametrize(
    ("authority", "said"), [("old_crl", "has expired"), ("foreign_crl", "isn't signed by it")]
)
def test_a_list_that_is_there_counts_soft(soft: Gate, authority: str, said: str) -> None:
    reply = soft.attempt(user(getattr(soft.grid, authority)))
    assert reply.status == 403
    assert said in reply.document["msg"]
    assert soft.refusals()[-1] == reply.document["msg"]


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_a_revoked_user_and_proxies_soft(soft: Gate, levels: int) -> None:
    credential = soft.grid.revoked
    for _ in range(levels):
        credential = full(credential)
    reply = soft.attempt(credential)
    assert (reply.status, reply.document["msg"]) == (403, "/O=Grid/OU=users/CN=revoked is revoked")


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_a_new_list_counts_on_the_live_port(request: pytest.FixtureRequest, mode: str) -> None:
    opened: Gate = request.getfixturevalue(mode)
    mine = alice(opened.grid)
    assert opened.attempt(mine).status == 404
    opened.grid.revoke(mine.certificate)
    os.kill(opened.instance.process.pid, signal.SIGHUP)
    until(lambda: opened.attempt(mine).status != 404, "the list has been read")
    assert opened.attempt(mine).status == (0 if mode == "hard" else 403)
    assert "revoked" in opened.refusals()[-1]
    assert opened.attempt(user(opened.grid.root, "bob")).status == 404

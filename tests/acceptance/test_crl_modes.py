"""Missing, expired and replaced revocation lists on the service's own port, hard and soft.

And whether a revoked user is out while other files of the service are broken.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from deliv_testbed import pki
from deliv_testbed.pki import Credential
from support import live_client
from support.another_instance import Instance, another_instance
from support.credentials import Grid, alice, full, user
from support.live_client import Reply
from support.running_stack import Stack, until

NOTHING = "/transferStatus?job_id=1"  # 404 for everybody who gets so far


@dataclass(frozen=True, kw_only=True)
class Gate:
    instance: Instance
    grid: Grid
    directory: Path

    def attempt(self, credential: Credential) -> Reply:
        return live_client.get(self.instance.port, self.context(credential), NOTHING)

    def context(self, credential: Credential) -> ssl.SSLContext:
        file = self.directory / "client.pem"
        pki.write(file, credential.proxy_pem(), mode=0o600)
        return live_client.lax_context(Path(self.instance.stack.testbed["ca_file"]), file)

    def files(self) -> dict[str, Any]:
        """What /ready says of the files that are read again."""
        report = json.loads(self.instance.status("/ready")[1])
        found: dict[str, Any] = report["dependencies"]["files"]
        assert found["up"] == ("files" not in report["waiting_for"])
        return found

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
    served = yaml.safe_load(Path(stack.testbed["config"]).read_text(encoding="utf-8"))
    own: dict[str, dict[str, str]] = {"rest": {}, "credential": {}}
    for section, copies in own.items():
        for name in ("certificate", "key"):
            copies[name] = str(directory / f"{section}.{name}")
            shutil.copy(served[section][name], copies[name])
    with another_instance(stack, directory, **own, **settings) as instance:
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


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_a_revoked_user_is_out_while_our_key_is_half_written(
    request: pytest.FixtureRequest, mode: str
) -> None:
    """On the connection that was open; /ready and a metric report the key."""
    opened: Gate = request.getfixturevalue(mode)
    mine, host_key = user(opened.grid.root, "carol"), opened.directory / "rest.key"
    good, call = host_key.read_bytes(), f"GET {NOTHING} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with live_client.connected(opened.instance.port, opened.context(mine)) as connection:
        assert live_client.exchange(connection, call).status == 404
        host_key.write_bytes(good[: len(good) // 2])
        opened.grid.revoke(mine.certificate)
        os.kill(opened.instance.process.pid, signal.SIGHUP)
        until(lambda: live_client.exchange(connection, call).status == 403, "the list counts")
    assert opened.attempt(user(opened.grid.root, "bob")).status == 404  # by the old certificate
    until(lambda: str(host_key) in opened.files()["detail"], "/ready names it")
    assert 'deliv_dependency_up{dependency="files"} 0.0' in opened.instance.status("/metrics")[1]
    assert opened.instance.status("/ready")[0] == 200
    host_key.write_bytes(good)
    os.kill(opened.instance.process.pid, signal.SIGHUP)
    until(lambda: str(host_key) not in opened.files()["detail"], "the key is whole again")


def test_a_list_that_is_missing_before_another_hard(hard: Gate) -> None:
    """Who is connected is out like who connects; /ready and a metric report what is missing."""
    first, second = (hard.grid.file(hard.grid.root, suffix) for suffix in ("r0", "r1"))
    mine, call = user(hard.grid.root, "dave"), f"GET {NOTHING} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    ca = "/O=Grid/CN=root CA"
    with live_client.connected(hard.instance.port, hard.context(mine)) as connection:
        assert live_client.exchange(connection, call).status == 404
        first.rename(second)
        os.kill(hard.instance.process.pid, signal.SIGHUP)
        until(lambda: live_client.exchange(connection, call).status == 403, "the gap counts")
        assert hard.attempt(mine).status == 0
        report = f"{first}: missing, so that no list of the CA {ca} behind it counts"
        until(lambda: report in hard.files()["detail"], "/ready names it")
        shown = f'deliv_crl_missing{{ca="{ca}",file="{first.name}"}} 1.0'
        until(lambda: shown in hard.instance.status("/metrics")[1], "a metric names it")
        second.rename(first)
        os.kill(hard.instance.process.pid, signal.SIGHUP)
        until(lambda: live_client.exchange(connection, call).status == 404, "the list is back")
    until(lambda: str(first) not in hard.files()["detail"], "nothing is missing")
    until(lambda: shown not in hard.instance.status("/metrics")[1], "nothing is missing")


def test_our_credential_for_the_stager_and_fts_that_is_half_written_is_told(soft: Gate) -> None:
    """The last good one stays in use, so that nothing else would tell before it expires."""
    key = soft.directory / "credential.key"
    good = key.read_bytes()
    key.write_bytes(good[: len(good) // 2])
    until(lambda: str(key) in soft.files()["detail"], "/ready names it")
    assert soft.attempt(alice(soft.grid)).status == 404
    key.write_bytes(good)
    until(lambda: str(key) not in soft.files()["detail"], "the key is whole again")

"""The example of a production inventory is complete, and works with bare hosts and a vault."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.booting import Boot
from deploy.deployment import SITE
from deploy.fleet import ANSIBLE, BIN, Fleet

EXAMPLE = ANSIBLE / "inventories" / "production.example"
HOSTS = {f"{name}.example.org": name for name in ("db", "mq", "deliv", "archive")}
VAULT = Path("group_vars/all/vault.yml")


@pytest.fixture(scope="module")
def fleet(boot: Boot) -> Iterator[Fleet]:
    with boot("trixie", *HOSTS.values()) as fleet:
        yield fleet


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "vault-password"
    file.write_text(secrets.token_hex(16))
    return file


@pytest.fixture
def production(tmp_path: Path, password: Path) -> Path:
    """A copy of the example, made as its comments say, with secrets in a vault."""
    copy = tmp_path / "production"
    shutil.copytree(EXAMPLE, copy)
    variables = yaml.safe_load((copy / f"{VAULT}.example").read_text())
    (copy / VAULT).write_text(yaml.safe_dump({name: secrets.token_hex(24) for name in variables}))
    encrypt = [str(BIN / "ansible-vault"), "encrypt", "--vault-password-file", str(password)]
    subprocess.run([*encrypt, str(copy / VAULT)], check=True, capture_output=True)
    return copy


def test_the_example_holds_no_secret() -> None:
    variables = yaml.safe_load((EXAMPLE / f"{VAULT}.example").read_text())
    assert set(variables.values()) == {"CHANGE-ME"}
    assert not (EXAMPLE / VAULT).exists()


def test_a_dry_run_on_bare_hosts(
    fleet: Fleet, production: Path, password: Path, tmp_path: Path
) -> None:
    """Every role accepts its arguments, and no secret is shown."""
    play = fleet.playbook(
        SITE, "--check", "--diff", "-vv", f"--vault-password-file={password}",
        inventories=[production, _where_hosts_are(fleet, tmp_path)],
    )  # fmt: skip
    assert play.succeeded, play.output[-8000:]
    assert set(play.recap) == set(HOSTS)
    shown = subprocess.run(
        [str(BIN / "ansible-vault"), "view", "--vault-password-file", str(password),
         str(production / VAULT)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for secret in yaml.safe_load(shown).values():
        assert secret not in play.output


def _where_hosts_are(fleet: Fleet, directory: Path) -> Path:
    """An inventory that maps the example's names and addresses to the test's hosts."""
    logins = json.loads(fleet.run.inventory.read_text())["all"]["vars"]
    addresses = {name: fleet.address(short) for name, short in HOSTS.items()}
    hosts = {
        name: {"ansible_host": address, "common_address": address}
        for name, address in addresses.items()
    }
    file = directory / "hosts.json"
    file.write_text(json.dumps({"all": {"hosts": hosts, "vars": logins}}))
    return file

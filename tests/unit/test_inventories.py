"""The inventories that are shipped: whom their policies let in."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deliv.identity.policy import Policy

INVENTORIES = Path(__file__).parents[2] / "ansible" / "inventories"
FILES = [
    file
    for file in INVENTORIES.rglob("*.yml")
    if "\ndeliv_policy_rules:" in file.read_text("utf-8")
]


def test_each_inventory_has_a_policy() -> None:
    assert {file.relative_to(INVENTORIES).parts[0] for file in FILES} == {
        "lab",
        "production.example",
        "single",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(INVENTORIES)))
def test_a_certificate_of_the_ca_alone_lets_nobody_in(file: Path) -> None:
    settings = yaml.safe_load(file.read_text("utf-8"))
    rules = settings["deliv_policy_rules"]
    for rule in rules:
        if "destinations" in rule:
            rule["destinations"] = ["dtn.example.org"]  # Ansible fills in the hosts
    deny = settings.get("deliv_policy_deny", [])
    policy = Policy.parse(yaml.safe_dump({"rules": rules, "deny": deny}))
    stranger = "/DC=org/DC=example/OU=people/CN=somebody"
    host = "dtn.example.org"
    assert not policy.explain(stranger, "submit", destination_host=host).considered
    known = stranger.replace("somebody", "Alice" if "production" in str(file) else "alice")
    assert policy.explain(known, "submit", destination_host=host).decision.allowed

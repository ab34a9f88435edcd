"""The configuration files of deliv, the dummies and the issuer of tokens in a testbed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from deliv_testbed import ports
from deliv_testbed.identities import SERVICE, STAGER, Identities
from deliv_testbed.layout import Instance, Layout, Plan
from deliv_testbed.parts import Parts

# Few and quick: a person or a test waits for the outcome.
RETRIES = {
    "unreachable": {"attempts": 4, "backoff": "2s"},
    "timeout": {"attempts": 2, "backoff": "2s"},
    "source missing": {"attempts": 2, "backoff": "2s"},
    "checksum": {"attempts": 2, "backoff": "2s"},
    "credential": {"attempts": 2, "backoff": "2s"},
    "other": {"attempts": 2, "backoff": "2s"},
}
STAGING_TIMEOUT = "60s"
STALLED_AFTER = 5.0  # seconds, for which the real FTS has 900
# What the stager's access tokens are for.
CLIENT, AUDIENCE, SCOPE = "stager", "deliv", "deliv.stage_report"


def rest_url(instance: Instance) -> str:
    return f"https://{ports.LOOPBACK}:{instance.rest}"


def monitoring_url(instance: Instance) -> str:
    return f"http://{ports.LOOPBACK}:{instance.monitoring}"


def dummy_urls(plan: Plan) -> dict[str, str]:
    """By the name of the part; an existing FTS3 takes the place of the first dummy FTS."""
    urls = {name: f"https://{ports.LOOPBACK}:{plan.ports[name]}" for name in plan.request.dummies}
    return urls | ({"fts": plan.request.fts_url} if plan.request.fts_url else {})


def write_deliv(parts: Parts) -> None:
    """One configuration for each instance; they differ in their ports."""
    layout, database, broker = parts.layout, parts.database, parts.broker
    urls = dummy_urls(parts.plan)
    for number, instance in enumerate(parts.plan.instances, 1):
        document = {
            "rest": {
                "listen": f"{ports.LOOPBACK}:{instance.rest}",
                "public_url": rest_url(instance),
                **_pair(layout, "hosts/deliv"),
            },
            "monitoring": f"{ports.LOOPBACK}:{instance.monitoring}",
            "ca_directory": str(layout.ca_directory),
            "credential": _pair(layout, SERVICE),
            "policy": str(layout.policy),
            "database": {
                "host": database.host,
                "port": database.port,
                "name": database.name,
                **_account(database.user, database.password_file(database.user)),
                "migrations": _account(
                    database.migrations_user, database.password_file(database.migrations_user)
                ),
            },
            "broker": {
                "host": broker.host,
                "port": broker.port,
                **_account(broker.user, broker.password_file),
            },
            "stager": {
                "url": urls["stager"],
                "gridftp_hosts": [parts.archive.address],
                "timeout": STAGING_TIMEOUT,
                "callback": {"certificate": True, "token": _expected_token(urls["issuer"])},
            },
            "fts": {
                "endpoints": {
                    name: url for name, url in urls.items() if name.partition("@")[0] == "fts"
                },
                "poll_every": "500ms",  # a tenth of the default, as the dummy FTS's interval is
            },
            "delegation": {"key_file": str(layout.delegation_key), "every": "2s"},
            "retries": RETRIES,
            "rests": {"first_pause": "2s", "longest_pause": "10s"},
            "limits": {"patience_new": "20s"},
            "audit": {"file": str(layout.audit_log)},
            "sweeps": {"every": "2s", "lease": "10s", "hold": "30s", "ask_again": "2s"},
        }
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        layout.config(number).write_text(text, encoding="utf-8")


def write_policy(layout: Layout, identities: Identities) -> None:
    """Who may do what; deliveries go to loopback only."""
    hosts = [ports.LOOPBACK, "localhost"]
    rules: list[dict[str, Any]] = [
        {"dn": identities.dn("users/alice"), "roles": ["submitter"], "destinations": hosts},
        {"dn": identities.dn("users/bob"), "roles": ["submitter"], "destinations": hosts},
        {
            "dn": identities.dn("users/operator"),
            "roles": ["submitter", "operator"],
            "destinations": hosts,
        },
        {"dn": identities.dn(STAGER), "roles": ["stager"]},
    ]
    text = yaml.safe_dump({"rules": rules}, sort_keys=False, allow_unicode=True)
    layout.policy.write_text(text, encoding="utf-8")


def write_dummy(name: str, parts: Parts, identities: Identities) -> None:
    """A dummy's directory and its settings: what all of them have, and what is its own."""
    layout, kind = parts.layout, name.partition("@")[0]
    state = layout.directory / name
    state.mkdir()
    parts.account.own(state)
    document = {
        "host": ports.LOOPBACK,
        "port": parts.plan.ports[name],
        "ca_directory": str(layout.ca_directory),
        **_pair(layout, f"hosts/{kind}"),
        **SETTINGS[kind](parts, identities, state),
    }
    text = json.dumps(document, ensure_ascii=False, indent=1)
    layout.settings(name).write_text(text, encoding="utf-8")


def stager(parts: Parts, identities: Identities, state: Path) -> dict[str, Any]:
    """It copies within the archive's GridFTP server's root; deliv alone may use it."""
    certificate, key = parts.layout.credential(STAGER)
    staging = parts.archive.root / "staging"
    staging.mkdir()
    parts.account.own(staging)
    return {
        "clients": [identities.dn(SERVICE)],
        "callbacks": [rest_url(instance) for instance in parts.plan.instances],
        "client_certificate": str(certificate),
        "client_key": str(key),
        "archive_root": str(parts.archive.root),
        "gridftp": parts.archive.address,
        "staging_directory": str(staging),
        "staging_path": str(staging),
        "state_directory": str(state),
        "token": {
            "url": f"{dummy_urls(parts.plan)['issuer']}/token",
            "client_id": CLIENT,
            "scope": SCOPE,
            "audience": AUDIENCE,
        },
    }


def fts(parts: Parts, identities: Identities, state: Path) -> dict[str, Any]:
    return {"state": str(state), "stalled_after": STALLED_AFTER}


def issuer(parts: Parts, identities: Identities, state: Path) -> dict[str, Any]:
    """Its one client is the stager."""
    client = {"dn": identities.dn(STAGER), "scopes": [SCOPE], "audiences": [AUDIENCE]}
    url = dummy_urls(parts.plan)["issuer"]
    return {"issuer": url, "state": str(state), "clients": {CLIENT: client}}


SETTINGS: dict[str, Callable[[Parts, Identities, Path], dict[str, Any]]] = {
    "stager": stager,
    "fts": fts,
    "issuer": issuer,
}


def _expected_token(issuer_url: str) -> dict[str, Any]:
    """Tokens are bound to the stager's certificate; a key that is withdrawn is soon refused."""
    return {
        "issuer": issuer_url,
        "audience": AUDIENCE,
        "scope": SCOPE,
        "jwks_url": f"{issuer_url}/jwks",
        "algorithms": ["ES256"],
        "bound": True,
        "refresh": "30s",
    }


def _account(user: str, password_file: Path) -> dict[str, str]:
    return {"user": user, "password_file": str(password_file)}


def _pair(layout: Layout, owner: str) -> dict[str, str]:
    certificate, key = layout.credential(owner)
    return {"certificate": str(certificate), "key": str(key)}

"""The configuration files of deliv, the dummies and the issuer of tokens in a testbed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from deliv_testbed import ports
from deliv_testbed.accounts import Account
from deliv_testbed.gridftp import Server
from deliv_testbed.identities import SERVICE, STAGER, Identities
from deliv_testbed.layout import Instance, Layout, Plan
from deliv_testbed.mariadb import Database
from deliv_testbed.parts import Parts, more_fts
from deliv_testbed.rabbitmq import Broker

# Failures are seen soon: a person or a test waits for them.
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


def stager_url(plan: Plan) -> str:
    return f"https://{ports.LOOPBACK}:{plan.stager}"


def fts_url(plan: Plan) -> str:
    return next(iter(fts_urls(plan).values()))


def fts_urls(plan: Plan) -> dict[str, str]:
    """By the name of the part, as deliv calls its endpoints too."""
    names = ("fts", *more_fts(len(plan.fts)))
    dummies = {
        name: f"https://{ports.LOOPBACK}:{port}" for name, port in zip(names, plan.fts, strict=True)
    }
    return dummies | ({"fts": plan.request.fts_url} if plan.request.fts_url else {})


def issuer_url(plan: Plan) -> str:
    return f"https://{ports.LOOPBACK}:{plan.issuer}"


def write_deliv(layout: Layout, plan: Plan, parts: Parts) -> None:
    """One configuration for each instance; they differ in their ports."""
    for number, instance in enumerate(plan.instances, 1):
        document = {
            **_addresses(layout, instance),
            "ca_directory": str(layout.ca_directory),
            "credential": _pair(layout, "services/deliv"),
            "policy": str(layout.policy),
            "database": _database(parts.database),
            "broker": _broker(parts.broker),
            "stager": {
                "url": stager_url(plan),
                "gridftp_hosts": [parts.archive.address],
                "timeout": STAGING_TIMEOUT,
                "callback": {"certificate": True, "token": _expected_token(plan)},
            },
            "fts": {"endpoints": fts_urls(plan), "poll_every": "1s"},
            "delegation": {"key_file": str(layout.delegation_key), "every": "2s"},
            "retries": RETRIES,
            "audit": {"file": str(layout.audit_log)},
            "sweeps": {"every": "2s", "lease": "10s", "hold": "30s", "ask_again": "2s"},
        }
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        layout.config(number).write_text(text, encoding="utf-8")


def write_policy(layout: Layout, identities: Identities) -> None:
    """Users submit, the operator sees to all, the stager reports; all to loopback only."""
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


def write_stager(
    layout: Layout, plan: Plan, archive: Server, identities: Identities, account: Account
) -> None:
    """The dummy stager's settings: it copies within the archive's GridFTP server's root.

    deliv may use it, and be called back, and nobody else.
    """
    certificate, key = layout.credential("users/stager")
    staging, state = archive.root / "staging", layout.directory / "stager"
    for directory in (staging, state):
        directory.mkdir()
        account.own(directory)
    _write_json(
        layout.settings("stager"),
        _server(layout, "stager", plan.stager)
        | {
            "clients": [identities.dn(SERVICE)],
            "callbacks": [rest_url(instance) for instance in plan.instances],
            "client_certificate": str(certificate),
            "client_key": str(key),
            "archive_root": str(archive.root),
            "gridftp": archive.address,
            "staging_directory": str(staging),
            "staging_path": str(staging),
            "state_directory": str(state),
            "token": {
                "url": f"{issuer_url(plan)}/token",
                "client_id": CLIENT,
                "scope": SCOPE,
                "audience": AUDIENCE,
            },
        },
    )


def write_fts(layout: Layout, plan: Plan, account: Account) -> None:
    """The settings of each dummy FTS."""
    for name, port in zip(("fts", *more_fts(len(plan.fts))), plan.fts, strict=True):
        state = layout.directory / name
        state.mkdir()
        account.own(state)
        settings = _server(layout, "fts", port)
        settings |= {"state": str(state), "stalled_after": STALLED_AFTER}
        _write_json(layout.settings(name), settings)


def write_issuer(layout: Layout, plan: Plan, identities: Identities, account: Account) -> None:
    """The token issuer's settings: its one client is the stager."""
    state = layout.directory / "issuer"
    state.mkdir()
    account.own(state)
    stager = {"dn": identities.dn(STAGER), "scopes": [SCOPE], "audiences": [AUDIENCE]}
    settings = {"issuer": issuer_url(plan), "state": str(state), "clients": {CLIENT: stager}}
    _write_json(layout.settings("issuer"), _server(layout, "issuer", plan.issuer) | settings)


def _expected_token(plan: Plan) -> dict[str, Any]:
    """Tokens are bound to the stager's certificate; a key that is withdrawn is soon forgotten."""
    return {
        "issuer": issuer_url(plan),
        "audience": AUDIENCE,
        "scope": SCOPE,
        "jwks_url": f"{issuer_url(plan)}/jwks",
        "algorithms": ["ES256"],
        "bound": True,
        "refresh": "30s",
    }


def _addresses(layout: Layout, instance: Instance) -> dict[str, Any]:
    rest = {
        "listen": f"{ports.LOOPBACK}:{instance.rest}",
        "public_url": rest_url(instance),
        **_pair(layout, "hosts/deliv"),
    }
    return {"rest": rest, "monitoring": f"{ports.LOOPBACK}:{instance.monitoring}"}


def _database(database: Database) -> dict[str, Any]:
    return {
        "host": database.host,
        "port": database.port,
        "name": database.name,
        **_account(database.user, database.password_file(database.user)),
        "migrations": _account(
            database.migrations_user, database.password_file(database.migrations_user)
        ),
    }


def _broker(broker: Broker) -> dict[str, Any]:
    account = _account(broker.user, broker.password_file)
    return {"host": broker.host, "port": broker.port, **account}


def _account(user: str, password_file: Path) -> dict[str, str]:
    return {"user": user, "password_file": str(password_file)}


def _pair(layout: Layout, owner: str) -> dict[str, str]:
    certificate, key = layout.credential(owner)
    return {"certificate": str(certificate), "key": str(key)}


def _server(layout: Layout, name: str, port: int) -> dict[str, Any]:
    return {
        "host": ports.LOOPBACK,
        "port": port,
        "ca_directory": str(layout.ca_directory),
        **_pair(layout, f"hosts/{name}"),
    }


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")

"""DIR/testbed.json: where everything is, for tests, benchmarks and people."""

from __future__ import annotations

import json
from typing import Any

from deliv_testbed import gridftp, products, services
from deliv_testbed.identities import STAGER, USERS, Identities
from deliv_testbed.layout import Layout, Plan
from deliv_testbed.parts import Parts
from deliv_testbed.pki import write


def write_description(
    where: Layout, plan: Plan, parts: Parts, identities: Identities, pids: dict[str, int]
) -> None:
    """The file holds passwords: only the caller may read it."""
    document = {
        "url": services.rest_url(plan.instances[0]),
        "monitoring_url": services.monitoring_url(plan.instances[0]),
        "ca_dir": str(where.ca_directory),
        "ca_file": str(where.ca_file),
        "ca_key": str(where.ca_key),
        "config": str(where.config(1)),
        "users": {user: _user(where, identities, f"users/{user}") for user in USERS},
        "stager_user": _user(where, identities, STAGER),
        "gridftp": {
            "archive": _gridftp(parts.archive),
            "destination": _gridftp(parts.destination),
        },
        "fts_url": services.fts_url(plan),
        "stager_url": services.stager_url(plan),
        "issuer_url": services.issuer_url(plan),
        "products": products.known(parts.archive.root),
        "database": _database(parts),
        "broker_url": parts.broker.url,
        "pids": pids,
    }
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    write(where.description, text.encode(), mode=0o600)


def _user(where: Layout, identities: Identities, owner: str) -> dict[str, str]:
    certificate, key = where.credential(owner)
    return {
        "cert": str(certificate),
        "key": str(key),
        "proxy": str(where.proxy(owner)),
        "dn": identities.dn(owner),
    }


def _gridftp(server: gridftp.Server) -> dict[str, str]:
    return {"url": server.url, "root": str(server.root)}


def _database(parts: Parts) -> dict[str, Any]:
    """The service's own account: it reads and changes rows, not the schema."""
    database = parts.database
    return {
        "host": database.host,
        "port": database.port,
        "user": database.user,
        "password": database.password(database.user),
        "name": database.name,
    }

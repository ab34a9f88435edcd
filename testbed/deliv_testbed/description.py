"""DIR/testbed.json: where everything is, for tests, benchmarks and people."""

from __future__ import annotations

import json

from deliv_testbed import gridftp, products, services
from deliv_testbed.identities import STAGER, USERS, Identities
from deliv_testbed.layout import DUMMIES, Layout
from deliv_testbed.parts import Parts
from deliv_testbed.pki import write


def write_description(parts: Parts, identities: Identities, pids: dict[str, int]) -> None:
    """The file holds passwords: only the caller may read it."""
    where, plan, database = parts.layout, parts.plan, parts.database
    urls = services.dummy_urls(plan)
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
        **{f"{name}_url": urls[name] for name in DUMMIES},
        "products": products.known(parts.archive.root),
        # The service's own account: it reads and changes rows, not the schema.
        "database": {
            "host": database.host,
            "port": database.port,
            "user": database.user,
            "password": database.password(database.user),
            "name": database.name,
        },
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

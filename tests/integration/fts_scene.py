"""A scripted FTS server, deliv's client of it, and a transfer for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from deliv import config
from deliv.gateways.fts import Copy, Endpoint, Fts, Transfer
from deliv.gateways.https import HttpsClient
from integration.scripted_delegation import WHOAMI, CredentialDelegation
from integration.scripted_fts import Grid, ScriptedFts, reply

JOB = "261516c0-8cb2-59d9-be55-cb038e8fe9a2"  # of the sid below, as the real FTS computed it
COPY = Copy(source="gsiftp://archive/a", destination="gsiftp://user/a")
TRANSFER = Transfer(sid="deliv-tx-0001", copies=(COPY,))
UNKNOWN = "00000000-0000-0000-0000-000000000000"


@dataclass
class Scene:
    server: ScriptedFts
    endpoint: Endpoint
    delegating: CredentialDelegation


@asynccontextmanager
async def scene(
    grid: Grid, credential: config.CredentialFiles | None = None, **settings: object
) -> AsyncIterator[Scene]:
    """A server that knows deliv and delegates, and deliv's client of it."""
    https = HttpsClient(credential or grid.credential, grid.ca_directory)
    async with ScriptedFts(grid) as server:
        delegating = CredentialDelegation()
        delegating.install(server)
        server.on("GET", "/whoami", reply(WHOAMI))
        options = {"request_timeout": config.Seconds(30), **settings}
        fts = Fts(
            config.FtsSettings(endpoints={"one": config.HttpsUrl(server.url)}, **options), https
        )
        try:
            yield Scene(server, fts.endpoint("one"), delegating)
        finally:
            https.close()

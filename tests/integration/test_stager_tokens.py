"""The dummy stager's access tokens, from the real issuer over TLS by the stager's certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from deliv_testbed import pki
from deliv_testbed.issuer import server as issuer_server
from deliv_testbed.issuer.keys import KeyRing
from deliv_testbed.issuer.settings import Client, IssuerSettings
from deliv_testbed.stager.callbacks import Callbacks
from deliv_testbed.stager.register import Staging, State
from deliv_testbed.stager.reports import Reports
from deliv_testbed.stager.settings import TokenSettings
from deliv_testbed.stager.tokens import NoToken, Tokens
from deliv_testbed.tls import server_context
from support.minting import expected
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from deliv import config
from deliv.errors import TokenRefused
from deliv.gateways.issuer import Issuer
from deliv.identity.x509.certificates import thumbprint
from integration.scripted_fts import Grid, Reply, ScriptedFts, reply

STAGING = Staging(
    job_id="01900000-0000-7000-8000-000000000001",
    product_id="005",
    authcode="c0de",
    callback="",
    state=State.STAGED,
    told=False,
    since=0,
    name="005",
    size=5,
    checksum="ADLER32:00000001",
    msg="staged",
    answers=(),
)


@asynccontextmanager
async def issuing(grid: Grid, directory: Path, lifetime: int = 300) -> AsyncIterator[str]:
    """A running issuer whose client `stager` is the grid's robot; its URL."""
    (listening,) = bind_sockets(0, "127.0.0.1")
    port = listening.getsockname()[1]
    url = f"https://localhost:{port}"
    client = Client(dn=grid.robot.dn, scopes=("report",), audiences=("deliv",))
    settings = IssuerSettings(
        host="localhost",
        port=port,
        certificate=grid.host_credential.certificate,
        key=grid.host_credential.key,
        ca_directory=grid.ca_directory,
        issuer=url,
        state=directory,
        clients={"stager": client},
        lifetime=lifetime,
    )
    keys = KeyRing(directory / "keys.json", lifetime=lifetime, rotate_every=3600)
    application = issuer_server.application(settings, keys)
    server = HTTPServer(application, ssl_options=server_context(settings, ssl.CERT_OPTIONAL))
    server.add_sockets([listening])
    try:
        yield url
    finally:
        server.stop()
        await server.close_all_connections()


def context(grid: Grid, credential: pki.Credential | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(capath=grid.ca_directory)
    files = grid.write("client", credential or grid.robot)
    context.load_cert_chain(files.certificate, files.key)
    return context


def tokens(grid: Grid, url: str, credential: pki.Credential | None = None) -> Tokens:
    wanted = TokenSettings(url=f"{url}/token", client_id="stager", scope="report", audience="deliv")
    return Tokens(wanted, context(grid, credential))


async def test_one_token_for_many_callbacks(grid: Grid, tmp_path: Path) -> None:
    async with issuing(grid, tmp_path) as url:
        source = tokens(grid, url)
        first = await asyncio.gather(*(source.current() for _ in range(5)))
        assert len(set(first)) == 1
        source.forget()
        assert await source.current() not in first
        source.close()


async def test_a_token_near_its_end_is_not_used(grid: Grid, tmp_path: Path) -> None:
    async with issuing(grid, tmp_path, lifetime=0) as url:
        source = tokens(grid, url)
        assert await source.current() != await source.current()
        source.close()


async def test_no_token_for_another_certificate(grid: Grid, tmp_path: Path) -> None:
    other = grid.authority.issue(pki.user_name("other"))
    async with issuing(grid, tmp_path) as url:
        source = tokens(grid, url, other)
        with pytest.raises(NoToken, match="invalid_client"):
            await source.current()
        source.close()


@pytest.mark.parametrize(
    "answer",
    [
        Reply(drop=True),
        Reply(status=500),
        Reply(body=b"[]"),
        reply({"access_token": "x"}),
        reply({"access_token": "x", "expires_in": None}),
    ],
)
async def test_an_issuer_that_fails(grid: Grid, answer: Reply) -> None:
    async with ScriptedFts(grid) as server:
        server.on("POST", "/token", answer)
        source = tokens(grid, server.url)
        with pytest.raises(NoToken):
            await source.current()
        source.close()


async def test_callbacks_carry_what_deliv_accepts(grid: Grid, tmp_path: Path) -> None:
    """And, when that is ordered, a tampered one before."""
    async with issuing(grid, tmp_path) as url, ScriptedFts(grid) as deliv:
        deliv.on("POST", "/doneStaging", Reply(status=403), Reply(status=200))
        reports = Reports("localhost:1", "/staging", tmp_path)
        callbacks = Callbacks(context(grid), 4, reports, tokens(grid, url))
        staging = replace(STAGING, callback=f"{deliv.url}/doneStaging", product_id="badtoken-005")
        assert await callbacks.report(staging) == [403, 200]
        bad, good = (asked.headers["Authorization"].split(" ") for asked in deliv.asked)
        assert bad[0] == good[0] == "Bearer"
        await judged(grid, url, bad[1], good[1])
        callbacks.close()


async def judged(grid: Grid, url: str, bad: str, good: str) -> None:
    """Deliv's own judgement, with the keys fetched from the issuer."""
    settings = expected(
        issuer=url,
        audience="deliv",
        scope="report",
        bound=True,
        jwks_url=config.HttpsUrl(f"{url}/jwks"),
    )
    issuer = Issuer(settings, grid.ca_directory)
    holder = thumbprint(grid.robot.certificate.public_bytes(Encoding.DER))
    assert (await issuer.check(good, holder)).client_id == "stager"
    with pytest.raises(TokenRefused):
        await issuer.check(bad, holder)
    issuer.close()

"""The issuer's keys over real TLS: rotation, an issuer that is out, slow or talks nonsense."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from deliv_testbed import pki
from support.minting import (
    AUDIENCE,
    ISSUER,
    THUMBPRINT,
    claims,
    expected,
    minted,
    published,
    unsigned,
)

from deliv import config
from deliv.errors import TokenRefused, Unavailable
from deliv.gateways.issuer import Issuer
from integration.scripted_fts import Grid, Reply, ScriptedFts, html

JWKS = "/jwks"
BETWEEN = 1.0


class Clock:
    """Real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def publishing(grid: Grid) -> AsyncIterator[ScriptedFts]:
    """Publishes keys to whoever asks, as issuers do: without asking for a certificate."""
    context = grid.server_context()
    context.verify_mode = ssl.CERT_NONE
    async with ScriptedFts(grid, context) as server:
        server.on("GET", JWKS, keys("rsa"))
        yield server


def keys(*kids: str) -> Reply:
    return Reply(body=published(*kids))


def made_up(kid: str) -> str:
    return unsigned(claims(), b"x" * 256, alg="RS256", typ="at+jwt", kid=kid)


def asked(server: ScriptedFts) -> int:
    return len(server.calls("GET", JWKS))


@asynccontextmanager
async def issuer(grid: Grid, server: ScriptedFts, clock: Clock, **changes: Any) -> Any:
    url = config.HttpsUrl(f"{server.url}{JWKS}")
    settings = expected(**({"jwks_url": url} | changes))
    issuer = Issuer(settings, grid.ca_directory, between=BETWEEN, clock=clock)
    try:
        yield issuer
    finally:
        issuer.close()


async def refused(issuer: Issuer, token: str) -> str:
    with pytest.raises(TokenRefused) as caught:
        await issuer.check(token, THUMBPRINT)
    return str(caught.value)


async def out(issuer: Issuer, token: str) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await issuer.check(token, THUMBPRINT)
    assert caught.value.status == 503
    return caught.value


async def test_keys_are_fetched_once(grid: Grid, clock: Clock) -> None:
    async with publishing(grid) as server, issuer(grid, server, clock) as here:
        good = await asyncio.gather(*(here.check(minted(), THUMBPRINT) for _ in range(5)))
        assert {token.client_id for token in good} == {"stager"}
        assert await here.probe() == "has 1 keys"
        assert asked(server) == 1
        assert "expired" in await refused(here, minted(claims(exp=1)))
        assert asked(server) == 1


async def test_what_is_no_token_makes_nobody_ask(grid: Grid, clock: Clock) -> None:
    async with publishing(grid) as server, issuer(grid, server, clock) as here:
        for token in ("", "x", "a.b.c", unsigned(claims(), alg="none", typ="at+jwt", kid="rsa")):
            await refused(here, token)
        assert asked(server) == 0


async def test_rotation(grid: Grid, clock: Clock) -> None:
    """A new key is found when a token comes that it signed; an old one ends with its removal."""
    async with publishing(grid) as server, issuer(grid, server, clock) as here:
        old, new = minted(), minted(kid="ec")
        await here.check(old, THUMBPRINT)
        server.on("GET", JWKS, keys("rsa", "ec"))
        for token in (new, old):
            await here.check(token, THUMBPRINT)
        server.on("GET", JWKS, keys("ec"))
        clock.added += 301
        assert "does not publish" in await refused(here, old)
        await here.check(new, THUMBPRINT)


async def test_unknown_keys_are_looked_for_now_and_then(grid: Grid, clock: Clock) -> None:
    """Whatever callers make up: all that come within one pause wait for one question."""
    async with publishing(grid) as server, issuer(grid, server, clock) as here:
        started = time.monotonic()
        await here.check(minted(), THUMBPRINT)
        await asyncio.gather(*(refused(here, made_up(f"k{number}")) for number in range(50)))
        assert asked(server) == 2
        assert time.monotonic() - started >= BETWEEN


async def test_others_do_not_wait_for_a_made_up_key(grid: Grid, clock: Clock) -> None:
    async with publishing(grid) as server, issuer(grid, server, clock) as here:
        await here.check(minted(), THUMBPRINT)
        server.on("GET", JWKS, Reply(body=published("rsa"), delay=30))
        waiting = asyncio.create_task(out(here, made_up("x")))
        await asyncio.sleep(0)
        await here.check(minted(), THUMBPRINT)
        assert not waiting.done()
        assert not waiting.done()
        await waiting


async def test_an_issuer_that_is_out_from_the_beginning(grid: Grid, clock: Clock) -> None:
    async with publishing(grid) as server, issuer(grid, server, clock) as here:
        server.on("GET", JWKS, Reply(drop=True))
        assert (await out(here, minted())).retry_after >= 0
        with pytest.raises(Unavailable):
            await here.probe()
        server.on("GET", JWKS, keys("rsa"))
        clock.added += BETWEEN
        await here.check(minted(), THUMBPRINT)


async def test_kept_keys_go_on_within_a_limit(grid: Grid, clock: Clock) -> None:
    async with (
        publishing(grid) as server,
        issuer(grid, server, clock, keep=config.Seconds(3600)) as here,
    ):
        await here.check(minted(), THUMBPRINT)
        server.on("GET", JWKS, html(500))
        clock.added += 3000
        await here.check(minted(), THUMBPRINT)
        with pytest.raises(Unavailable, match=r"goes on with the keys it has: .* answered 500"):
            await here.probe()
        assert "expired" in await refused(here, minted(claims(exp=1)))
        await out(here, minted(kid="ec"))  # it may be a new key of the issuer's
        clock.added += 700
        await out(here, minted())
        server.on("GET", JWKS, keys("rsa", "ec"))
        clock.added += BETWEEN
        await here.check(minted(kid="ec"), THUMBPRINT)


@pytest.mark.parametrize(
    "answer",
    [
        html(200),
        html(404),
        Reply(status=302),
        Reply(status=204),
        Reply(body=b'{"keys": []}'),
        Reply(body=b"[" * 100_000),
        Reply(body=b"\xff\x00"),
        Reply(body=published("rsa") + b" " * 256 * 2**10),
        Reply(body=published("rsa"), delay=30),
        Reply(drop=True),
    ],
)
async def test_an_answer_that_is_no_jwk_set(grid: Grid, clock: Clock, answer: Reply) -> None:
    """It is as good as none: no keys at first, and none of the kept ones is lost by it."""
    async with publishing(grid) as server, issuer(grid, server, clock) as here:
        server.on("GET", JWKS, answer)
        async with asyncio.timeout(60):
            await out(here, minted())
        server.on("GET", JWKS, keys("rsa"))
        clock.added += BETWEEN
        await here.check(minted(), THUMBPRINT)
        server.on("GET", JWKS, answer)
        clock.added += 400
        async with asyncio.timeout(60):
            await here.check(minted(), THUMBPRINT)


async def test_the_server_is_verified(grid: Grid, clock: Clock) -> None:
    """Keys from whoever stands in between would let anybody in."""
    grid_ca = grid.directory / "grid-ca.pem"
    grid_ca.write_bytes(pki.certificate_pem(grid.authority.certificate))
    other = grid.directory / "other-ca.pem"
    stranger = pki.Authority.create(pki.name(("O", "elsewhere"), ("CN", "CA")))
    other.write_bytes(pki.certificate_pem(stranger.certificate))
    async with publishing(grid) as server:
        async with issuer(grid, server, clock, ca_file=grid_ca) as here:
            await here.check(minted(), THUMBPRINT)
        async with issuer(grid, server, clock, ca_file=other) as here:
            await out(here, minted())
        wrong_name = config.HttpsUrl(f"https://127.0.0.2:{server.port}{JWKS}")
        async with issuer(grid, server, clock, jwks_url=wrong_name) as here:
            await out(here, minted())


async def test_no_certificate_of_ours_goes_there(grid: Grid, clock: Clock, tmp_path: Path) -> None:
    async with ScriptedFts(grid) as curious, issuer(grid, curious, clock) as here:
        await out(here, minted())
        assert not curious.asked


async def test_the_claims_are_the_configured_ones(grid: Grid, clock: Clock) -> None:
    async with (
        publishing(grid) as server,
        issuer(grid, server, clock, issuer=f"{ISSUER}/2", audience=f"{AUDIENCE}/2") as here,
    ):
        await refused(here, minted())
        await here.check(minted(claims(iss=f"{ISSUER}/2", aud=f"{AUDIENCE}/2")), THUMBPRINT)

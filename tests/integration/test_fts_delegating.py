"""The FTS client against scripted answers: who deliv is to FTS, and what it delegates."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from deliv_testbed import pki

from deliv.errors import Refused, Unavailable, Unreachable
from deliv.gateways.fts import client
from integration import recorded
from integration.fts_scene import JOB, scene
from integration.scripted_delegation import DLG, REST, as_recorded
from integration.scripted_fts import Grid, html, reply

DOWN = recorded.sections("dbdown.txt")


async def test_whoami_is_asked_once(grid: Grid) -> None:
    async with scene(grid) as s:
        for _ in range(3):
            identity = await s.endpoint.whoami()
        assert identity.user_dn == "/DC=test/DC=oracle/OU=Users/CN=Alice Transfer"
        assert await s.endpoint.job_id("deliv-tx-0001") == JOB
        assert len(s.server.calls("GET", "/whoami")) == 1


async def test_whoami_is_asked_again_for_a_new_certificate(grid: Grid) -> None:
    credential = grid.write("changing", grid.authority.issue(pki.user_name("old")))
    async with scene(grid, credential) as s:
        await s.endpoint.whoami()
        grid.write("changing", grid.authority.issue(pki.user_name("new")))
        await s.endpoint.whoami()
        assert len(s.server.calls("GET", "/whoami")) == 2


async def test_nobody_to_fts(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("GET", "/whoami", as_recorded(REST["GET /whoami (no cert)"][0]))
        with pytest.raises(Refused, match="did not accept deliv's certificate") as caught:
            await s.endpoint.whoami()
        assert caught.value.code == 403


async def test_probe(grid: Grid) -> None:
    async with scene(grid) as s:
        assert (await s.endpoint.probe()).endswith("Alice Transfer, nothing delegated yet")
        await s.endpoint.ensure_delegated()
        assert "delegated for 24.0 h" in await s.endpoint.probe()


async def test_a_probe_asks_nothing_while_other_calls_are_served(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LATELY", math.inf)

    async with scene(grid) as s:

        async def asked() -> int:
            await s.endpoint.probe()
            return len(s.server.calls("GET", "/whoami"))

        assert [await asked(), await asked()] == [1, 1]
        s.server.on("GET", "/jobs", reply({"message": "banned"}, 403))
        with pytest.raises(Refused):
            await s.endpoint.unfinished()
        assert [await asked(), await asked()] == [2, 2]
        s.server.on("GET", "/jobs", html(502))
        with pytest.raises(Unreachable):
            await s.endpoint.unfinished()
        assert [await asked(), await asked()] == [3, 3]
        s.server.on("GET", "/jobs", reply([]))
        await s.endpoint.unfinished()
        assert await asked() == 3


async def test_many_callers_delegate_once(grid: Grid) -> None:
    async with scene(grid) as s:
        await asyncio.gather(*(s.endpoint.ensure_delegated() for _ in range(20)))
        await s.endpoint.ensure_delegated()
        (chain,) = s.delegating.put
        proxy, issuer = x509.load_pem_x509_certificates(chain)
        assert issuer == grid.robot.certificate
        proxy.verify_directly_issued_by(issuer)
        assert proxy.subject.rdns[:-1] == issuer.subject.rdns
        info = proxy.extensions.get_extension_for_oid(pki.PROXY_CERT_INFO)
        assert info.critical
        life = proxy.not_valid_after_utc - datetime.now(UTC)
        assert timedelta(hours=23, minutes=59) < life <= timedelta(hours=24)
        starts = proxy.not_valid_before_utc  # FTS's clock may be behind
        assert issuer.not_valid_before_utc <= starts < datetime.now(UTC) - timedelta(hours=1.9)


async def test_a_delegation_starts_no_earlier_than_the_certificate(grid: Grid) -> None:
    new = grid.authority.issue(pki.user_name("new"), starts=datetime.now(UTC) - timedelta(hours=1))
    async with scene(grid, grid.write("young", new)) as s:
        await s.endpoint.ensure_delegated()
        proxy, issuer = x509.load_pem_x509_certificates(s.delegating.put[0])
        assert proxy.not_valid_before_utc == issuer.not_valid_before_utc


async def test_one_that_lasts_is_left(grid: Grid) -> None:
    async with scene(grid) as s:
        s.delegating.until = datetime.now(UTC) + timedelta(hours=5)
        await s.endpoint.ensure_delegated()
        assert s.delegating.put == []


async def test_one_that_is_short_is_renewed(grid: Grid) -> None:
    async with scene(grid) as s:
        s.delegating.until = datetime.now(UTC) + timedelta(hours=3)
        await s.endpoint.ensure_delegated()
        assert len(s.delegating.put) == 1


async def test_a_proxy_delegates_its_whole_chain_and_no_longer_than_it_lives(grid: Grid) -> None:
    proxy = grid.robot.proxy(lifetime=timedelta(hours=3)).proxy(lifetime=timedelta(hours=8))
    async with scene(grid, grid.write_proxy("short", proxy)) as s:
        for _ in range(3):
            await s.endpoint.ensure_delegated()
        (chain,) = s.delegating.put
        certificates = x509.load_pem_x509_certificates(chain)
        assert len(certificates) == 4
        assert certificates[0].not_valid_after_utc <= certificates[1].not_valid_after_utc


async def test_a_certificate_that_ends_before_the_lifetime_asked_for(grid: Grid) -> None:
    brief = grid.authority.issue(pki.user_name("brief"), lifetime=timedelta(hours=2))
    async with scene(grid, grid.write("brief", brief)) as s:
        await s.endpoint.ensure_delegated()
        (proxy, *_) = x509.load_pem_x509_certificates(s.delegating.put[0])
        assert proxy.not_valid_after_utc <= brief.certificate.not_valid_after_utc


async def test_an_expired_certificate_is_ours_to_renew(grid: Grid) -> None:
    past = datetime.now(UTC) - timedelta(days=2)
    old = grid.authority.issue(pki.user_name("old"), starts=past, lifetime=timedelta(days=1))
    async with scene(grid, grid.write("expired", old)) as s:
        with pytest.raises(Unavailable):
            await s.endpoint.ensure_delegated()
        assert s.delegating.put == []


async def test_fts_refuses_the_delegation(grid: Grid) -> None:
    async with scene(grid) as s:
        refusal = as_recorded(REST["PUT credential: garbage"][0])
        s.server.on("PUT", f"{DLG}/credential", refusal)
        with pytest.raises(Refused, match="Malformed proxy") as caught:
            await s.endpoint.ensure_delegated()
        assert caught.value.code == 400


async def test_fts_goes_away_while_delegating(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on(
            "GET", f"{DLG}/request", as_recorded(DOWN["MariaDB down: GET /jobs/x and POST"][0])
        )
        with pytest.raises(Unreachable, match="answered 500: text/html"):
            await s.endpoint.ensure_delegated()
        s.delegating.install(s.server)
        await s.endpoint.ensure_delegated()
        assert len(s.delegating.put) == 1

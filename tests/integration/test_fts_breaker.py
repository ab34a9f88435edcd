"""The FTS client against scripted answers: a server that fails is left alone for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from deliv import config
from deliv.delivery.endpoints import EndpointResolver
from deliv.errors import Refused, Unavailable, Unreachable
from deliv.gateways.fts import BreakerState, Endpoint, Fts
from deliv.gateways.fts.client import MOMENT
from deliv.gateways.fts.users import UserEndpoints
from deliv.gateways.https import HttpsClient
from integration.fts_scene import JOB, TRANSFER, scene
from integration.scripted_delegation import REST, WHOAMI, as_recorded
from integration.scripted_fts import Grid, Reply, ScriptedFts, html, reply


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def two_servers(
    grid: Grid, clock: Clock
) -> AsyncIterator[tuple[Fts, ScriptedFts, ScriptedFts]]:
    https = HttpsClient(grid.credential, grid.ca_directory)
    async with ScriptedFts(grid) as first, ScriptedFts(grid) as second:
        urls = {"first": config.HttpsUrl(first.url), "second": config.HttpsUrl(second.url)}
        for server in (first, second):
            server.on("GET", "/whoami", reply(WHOAMI))
        yield Fts(config.FtsSettings(endpoints=urls), https, clock), first, second
    https.close()


async def fail(server: ScriptedFts, endpoint: Endpoint) -> None:
    server.on("GET", "/jobs", html(500))
    for _ in range(3):
        with pytest.raises(Unreachable, match="answered 500"):
            await endpoint.unfinished()
    assert endpoint.breaker.state is BreakerState.OPEN


async def test_another_server_takes_new_copies_while_the_first_is_out(grid: Grid) -> None:
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, second):
        preferred, spare = fts.endpoints

        async def taking() -> list[str]:
            resolver = EndpointResolver(fts, cast(UserEndpoints, None), None)
            return [one.name for one in fts.endpoints if await resolver.takes_new(one.name)]

        assert await fts.choose() is preferred
        assert await taking() == ["first"]
        await fail(first, preferred)
        assert await fts.choose() is spare
        assert await taking() == ["second"]
        await fail(second, spare)
        with pytest.raises(Unavailable, match=r"FTS first .*; FTS second "):
            await fts.choose()
        assert await taking() == []
        clock.now += 10
        assert await fts.choose() is preferred


async def test_none_is_given_to_a_server_that_has_just_gone(grid: Grid) -> None:
    """Though its breaker is closed: it is asked first, unless it was heard of a moment ago."""
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, _):
        preferred, spare = fts.endpoints
        assert await fts.choose() is preferred
        first.on("GET", "/whoami", Reply(drop=True))
        assert await fts.choose() is preferred
        clock.now += MOMENT
        assert await fts.choose() is spare
        assert preferred.breaker.state is BreakerState.CLOSED
        first.on("GET", "/whoami", reply(WHOAMI))
        asked = len(first.calls("GET", "/whoami"))
        for _ in range(3):
            assert await fts.choose() is preferred
        assert len(first.calls("GET", "/whoami")) == asked + 1


@pytest.mark.parametrize("status", [200, 302, 403, 404, 502])
async def test_a_server_behind_web_pages_is_out(grid: Grid, status: int) -> None:
    """A proxy in front of FTS is up, FTS is not; its own refusals are JSON."""
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, _):
        preferred, spare = fts.endpoints
        first.on("GET", "/whoami", html(status))
        for _ in range(3):
            clock.now += MOMENT
            assert await fts.choose() is spare
        assert preferred.breaker.state is BreakerState.OPEN
        assert f"answered {status}" in preferred.breaker.reason


async def test_a_server_that_does_not_know_deliv_gets_no_jobs(grid: Grid) -> None:
    async with two_servers(grid, Clock()) as (fts, first, _):
        first.on("GET", "/whoami", reply({"user_dn": "anon"}))
        for _ in range(3):
            assert await fts.choose() is fts.endpoint("second")


async def test_calls_that_were_given_up_open_the_breaker_too(grid: Grid) -> None:
    """As readiness gives up sooner than a call of a frozen server ends."""
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, _):
        endpoint = fts.endpoint("first")
        first.on("GET", "/jobs", reply([], delay=30))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(endpoint.unfinished(), 0.2)
        assert endpoint.breaker.state is BreakerState.OPEN
        assert "given up" in endpoint.breaker.reason


async def test_a_failing_server_is_left_alone_for_a_while(grid: Grid) -> None:
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, _):
        endpoint = fts.endpoint("first")
        await fail(first, endpoint)
        with pytest.raises(Unreachable, match="left alone after failures: FTS first") as caught:
            await endpoint.unfinished()
        assert not caught.value.sent
        assert caught.value.retry_after == 2
        assert len(first.asked) == 3
        clock.now += 10
        first.on("GET", "/jobs", reply([]))
        assert await endpoint.unfinished() == {}
        assert endpoint.breaker.state is BreakerState.CLOSED


async def test_what_a_server_says_to_one_caller_is_not_told_to_the_next(grid: Grid) -> None:
    """Nor by /ready: it may name the file or the user of another's job."""
    async with two_servers(grid, Clock()) as (fts, first, _):
        endpoint = fts.endpoint("first")
        first.on("GET", "/jobs", reply({"message": "no room for alice"}, 500))
        for _ in range(3):
            with pytest.raises(Unreachable, match="no room for alice"):
                await endpoint.unfinished()
        with pytest.raises(Unreachable, match=r"FTS first answered 500$"):
            await endpoint.unfinished()
        assert endpoint.breaker.reason == "FTS first answered 500"


async def test_a_server_that_was_out_for_long_is_found_again_soon(grid: Grid) -> None:
    """Jobs wait for it: it is tried again every 5 s at most, however often that failed."""
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, _):
        endpoint = fts.endpoint("first")
        await fail(first, endpoint)
        for _ in range(10):
            clock.now += 5
            with pytest.raises(Unreachable, match="answered 500"):
                await endpoint.unfinished()
        first.on("GET", "/jobs", reply([]))
        clock.now += 5
        assert await endpoint.unfinished() == {}


async def test_a_server_that_fails_to_cancel_alone_goes_on_copying(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("DELETE", f"/jobs/{JOB}", html(500))
        for _ in range(3):
            with pytest.raises(Unreachable, match="answered 500"):
                await s.endpoint.cancel(JOB)
        with pytest.raises(Unreachable, match="left alone after failures"):
            await s.endpoint.cancel(JOB)
        assert s.endpoint.breaker.state is BreakerState.CLOSED
        s.server.on("GET", "/jobs", reply([]))
        assert await s.endpoint.unfinished() == {}
        assert len(s.server.calls("DELETE", f"/jobs/{JOB}")) == 3


async def test_refusals_do_not_open_the_breaker(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", as_recorded(REST["POST empty files"][0]))
        for _ in range(5):
            with pytest.raises(Refused):
                await s.endpoint.submit(TRANSFER)
        assert s.endpoint.breaker.state is BreakerState.CLOSED


def test_an_endpoint_that_left_the_configuration(grid: Grid) -> None:
    fts = Fts(config.FtsSettings(endpoints={}), HttpsClient(grid.credential, grid.ca_directory))
    with pytest.raises(Unavailable, match="gone is not configured any more"):
        fts.endpoint("gone")

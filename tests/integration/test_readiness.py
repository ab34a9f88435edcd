"""What /ready shows of the circuit breakers."""

from __future__ import annotations

from pathlib import Path

import pytest

from deliv.db.database import Database
from deliv.errors import Unreachable
from integration.fts_bench import bench
from integration.scripted_fts import Grid, html


async def test_the_breaker_of_cancellations_is_shown(
    grid: Grid, database: Database, tmp_path: Path
) -> None:
    async with bench(grid, database, tmp_path) as here:
        health = here.parts.health
        shown = health.report()["dependencies"]
        assert (shown["fts:fts1"]["breaker"], shown["fts:fts1"]["cancel_breaker"]) == (
            "closed",
        ) * 2
        assert (shown["stager"]["breaker"], shown["stager"]["release_breaker"]) == ("closed",) * 2
        here.server.on("DELETE", "/jobs/1", html(500))
        for _ in range(3):
            with pytest.raises(Unreachable):
                await here.endpoint.cancel("1")
        report = health.report()
        shown = report["dependencies"]["fts:fts1"]
        assert (shown["breaker"], shown["cancel_breaker"]) == ("closed", "open")

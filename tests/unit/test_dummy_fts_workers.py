"""The dummy FTS's copying processes: real ones, which copy nothing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from deliv_testbed.fts import workers
from deliv_testbed.fts.settings import FtsSettings
from deliv_testbed.fts.workers import Workers


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FtsSettings:
    """A process is without work for too long at once."""
    copier = tmp_path / "copier.py"
    copier.write_text("import sys\nfor line in sys.stdin: pass\n")
    monkeypatch.setattr(workers, "COPIER", copier)
    return FtsSettings(
        host="127.0.0.1",
        port=1,
        certificate=tmp_path,
        key=tmp_path,
        ca_directory=tmp_path,
        state=tmp_path,
        python=Path(sys.executable),
        idle=0.0,
    )


def test_a_process_that_is_about_to_end_gets_no_work(settings: FtsSettings) -> None:
    async def ends_two_while_one_is_asked_for() -> bool:
        pool, proxy = Workers(settings), settings.state / "proxy.pem"
        for worker in [await pool.acquire(proxy) for _ in range(2)]:
            pool.release(worker)
        _, worker = await asyncio.gather(pool.end_idle(), pool.acquire(proxy))
        alive = worker.alive
        await pool.close()
        return alive

    assert asyncio.run(ends_two_while_one_is_asked_for())

"""`database`: what the pool must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deliv import config
from deliv.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"


def load(tmp_path: Path, at_once: int, **database: int) -> config.DatabaseSettings:
    document: Any = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    document["rest"]["requests_at_once"] = at_once
    document["database"] |= database
    path = tmp_path / "deliv.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return config.load(path).database


@pytest.mark.parametrize(("pool", "share"), [(2, 1), (3, 1), (8, 2), (11, 2), (100, 25)])
def test_a_share_is_a_quarter(tmp_path: Path, pool: int, share: int) -> None:
    database = load(tmp_path, 100, pool=pool, waiting=100)
    assert database.share == share
    assert database.pool - database.share >= share


@pytest.mark.parametrize("pool", [-1, 0, 1])
def test_one_connection_can_not_be_shared_out(tmp_path: Path, pool: int) -> None:
    with pytest.raises(ConfigError, match=r"Expected `int` >= 2 - at `\$.database.pool`"):
        load(tmp_path, 1, pool=pool)


def test_what_one_caller_may_ask_for_at_once_fits(tmp_path: Path) -> None:
    load(tmp_path, 66, pool=8, waiting=64)
    reason = (
        r"rest.requests_at_once .*: 67 is more than 2 connections \(a quarter of database.pool\) "
        r"and 64 calls that wait \(database.waiting\)"
    )
    with pytest.raises(ConfigError, match=reason):
        load(tmp_path, 67, pool=8, waiting=64)

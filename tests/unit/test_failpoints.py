"""Failpoints are there when the configuration has a directory for them, and not otherwise."""

from __future__ import annotations

import ast
import asyncio
import time
from pathlib import Path

from deliv.db.database import Database
from deliv.delivery.ending.failure import FailureHandler
from deliv.failpoints import Failpoints, Kinds, Point, kinds, wrappers
from deliv.gateways.fts import Endpoint
from deliv.gateways.stager import Stager
from deliv.store import Store


def test_without_a_directory_the_parts_are_plain() -> None:
    plain = kinds(None)
    assert plain == Kinds()
    assert (plain.database, plain.store, plain.stager) == (Database, Store, Stager)
    assert (plain.endpoint, plain.failures) == (Endpoint, FailureHandler)


def test_every_point_is_somewhere() -> None:
    tree = ast.parse(Path(wrappers.__file__).read_text(encoding="utf-8"))
    named = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "Point"
    }
    assert named == {point.name for point in Point}


def test_a_point_is_armed_once(tmp_path: Path) -> None:
    """What it does then is for the crash matrix to see."""
    points = Failpoints(tmp_path)
    (tmp_path / Point.STAGER_ASKED).write_text("hang 0.1", encoding="ascii")
    begun = time.monotonic()
    asyncio.run(points.reach(Point.STAGER_ASKED))
    assert time.monotonic() - begun >= 0.1
    (spent,) = tmp_path.iterdir()
    assert spent.name.endswith(".spent")
    asyncio.run(points.reach(Point.STAGER_ASKED))
    points.reach_in_thread(Point.STAGER_ASKED)
    assert list(tmp_path.iterdir()) == [spent]

"""Failpoints are there when the configuration has a directory for them, and not otherwise."""

from __future__ import annotations

import ast
import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.running_stack import until

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


def test_who_is_held_goes_on_when_the_spent_file_is_gone(tmp_path: Path) -> None:
    points = Failpoints(tmp_path)
    for point in (Point.STAGER_ASKED, Point.LEASE_TAKEN):
        (tmp_path / point).write_text("hold", encoding="ascii")
    with ThreadPoolExecutor(2) as pool:
        held = [
            pool.submit(asyncio.run, points.reach(Point.STAGER_ASKED)),
            pool.submit(points.reach_in_thread, Point.LEASE_TAKEN),
        ]
        spent = until(lambda: both(tmp_path.glob("*.spent")), "both are there")
        assert not any(one.done() for one in held)
        for file in spent:
            file.unlink()
        for one in held:
            one.result(60)


def both(files: Iterable[Path]) -> list[Path]:
    found = list(files)
    return found if len(found) == 2 else []

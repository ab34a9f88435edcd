"""docs/security.md names tests that there are, and every edge has its six threats."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([a-z_]+(?:/[a-z_]+)?\.py)`", PAGE)))


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_is_there(name: str) -> None:
    assert (ROOT / "tests" / name).is_file()


def edges() -> dict[str, str]:
    """The letters of STRIDE for each edge of the table of threats."""
    found: dict[str, str] = {}
    edge = ""
    for row in re.findall(r"^\| (.*?) ?\| ([STRIDE](?:, [STRIDE])*)[ |]", PAGE, re.MULTILINE):
        edge = row[0] or edge
        found[edge] = found.get(edge, "") + row[1].replace(", ", "")
    return found


def test_every_edge_is_looked_at_for_every_threat() -> None:
    assert len(edges()) == 12
    assert {edge: "STRIDE" for edge in edges()} == {
        edge: "STRIDE" if set("STRIDE") <= set(letters) else letters
        for edge, letters in edges().items()
    }


def test_limits_that_are_referred_to_are_there() -> None:
    listed = set(re.findall(r"^(\d+)\. \*\*", PAGE, re.MULTILINE))
    assert set(re.findall(r"limit (\d+)", PAGE)) <= listed

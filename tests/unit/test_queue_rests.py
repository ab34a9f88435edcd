"""`deliv queue rest` and `resume`: what can't come true is refused, whatever is rests is found."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import pytest

from deliv.assembly import Parts
from deliv.commands import rests
from deliv.errors import InvalidRequest
from deliv.model.rest import Cause, Place, Rest

HOST, DIRECTORY = "dtn.example.org", "gsiftp://dtn.example.org/data"
REASON = ("--reason", "a new disk")


def rest(cause: Cause, name: str) -> Rest:
    now = datetime.now(UTC)
    return Rest(
        place_key=Place(cause=cause, name=name).key, cause=cause, place=name, host=None, reason="",
        failures=3, failed=now, proven=True, since=now, next_try=now, tries=0, allowance=0,
        successes=0, tried="", begun_by=None,
    )  # fmt: skip


@dataclass
class Store:
    """What rests, and the keys of what was ended."""

    there: list[Rest]
    ended: list[bytes] = field(default_factory=list)

    async def rests(self, limit: int) -> list[Rest]:
        return self.there[:limit]

    async def end_rest(self, key: bytes) -> bool:
        self.ended.append(key)
        return True


@dataclass
class Known:
    store: Store


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            [HOST, *REASON, "--until", "2020-01-07T08:00:00Z"],
            "--until 2020-01-07T08:00:00Z is over",
        ),
        ([HOST, *REASON, "--until", "2126-01-07T08:00:00Z"], "is later than 2038-01-01, the last"),
        ([HOST, *REASON, "--until", "Monday"], "--until must be a time in ISO 8601, like 2030"),
        ([HOST, "--reason", " "], "--reason must say what the users"),
        ([f"{HOST}:2811", *REASON], "dtn.example.org:2811: a host rests as a whole"),
        ([DIRECTORY, *REASON], "/data: a host rests as a whole"),
        (["no host", *REASON], "'no host' is not a host name"),
    ],
)
def test_a_rest_that_can_not_be(words: list[str], said: str) -> None:
    parser = argparse.ArgumentParser()
    rests.add_rest(parser)
    with pytest.raises(InvalidRequest, match=said):
        asyncio.run(rests.rest(cast(Parts, None), parser.parse_args(words)))


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("DTN.example.org.", HOST),
        (f"{HOST}.:2811", f"{HOST}:2811"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("[2001:db8::1]:2811", "[2001:db8::1]:2811"),
        (f"{DIRECTORY}/", DIRECTORY),
        (DIRECTORY, DIRECTORY),
    ],
)
def test_a_place_is_resumed_in_whatever_spelling(typed: str, name: str) -> None:
    found, other = rest(Cause.DESTINATION, name), rest(Cause.DESTINATION, "another")
    store = Store([other, found])
    assert asyncio.run(resume(typed, store)) == 0
    assert store.ended == [found.place_key]


@pytest.mark.parametrize("typed", ["", "a b", "another"])
def test_what_does_not_rest_can_not_be_resumed(typed: str) -> None:
    with pytest.raises(InvalidRequest, match=r"does not rest: name a place as `deliv queue list`"):
        asyncio.run(resume(typed, Store([rest(Cause.DESTINATION, HOST)])))


async def resume(typed: str, store: Store) -> int:
    options = argparse.Namespace(place=typed)
    return await rests.resume(cast(Parts, Known(store)), options)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_rest_is_folded_at_the_terminals_width_alone(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    there = replace(rest(Cause.SPACE, DIRECTORY), reason="no space is left on the device " * 4)
    rests.print_rest(there, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines) > 1, max(map(len, lines)) <= 80) == (terminal, terminal)
    assert DIRECTORY in " ".join(lines)

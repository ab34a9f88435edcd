"""What rests, for `deliv queue`: it is listed, begun and ended by operators.

What a rest is: deliv/model/rest.py.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shutil
import sys
import textwrap
from datetime import UTC, datetime

from deliv.assembly import Parts
from deliv.delivery.deadline import parse_moment
from deliv.errors import InvalidRequest
from deliv.identity import hosts
from deliv.model.rest import Rest, operators_place
from deliv.ops import logs

MOST = 1000  # that are listed
LATEST = datetime(2038, 1, 1, tzinfo=UTC)  # that each MariaDB has a TIMESTAMP for


async def resting(parts: Parts) -> list[Rest]:
    return await parts.store.rests(MOST)


def print_rest(rest: Rest, *, as_json: bool) -> None:
    if as_json:
        columns = {
            "resting": rest.place,
            "cause": rest.cause,
            "reason": rest.reason,
            "since": _iso(rest.since),
            "next_try": _iso(rest.next_try),
            "tries": rest.tries,
            "begun_by": rest.begun_by,
        }
        text = json.dumps(columns)
    else:
        then = f", next try {_minute(rest.next_try)}" if rest.next_try else ""
        if rest.begun_by is not None:
            then = f", until {_minute(rest.next_try) if rest.next_try else 'it is resumed'}"
            then += f", by {rest.begun_by}"
        text = (
            f"rests: {rest.place} since {_minute(rest.since)} ({rest.cause}{then}): {rest.reason}"
        )
    text = logs.escaped(text, "")
    if sys.stdout.isatty() and not as_json:  # a place is whole: it is copied from here
        text = textwrap.fill(
            text,
            shutil.get_terminal_size().columns,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    print(text, flush=True)


def add_rest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", metavar="HOST", help="a destination's host, without its port")
    parser.add_argument("--reason", required=True, help="what its users are shown")
    parser.add_argument(
        "--until",
        metavar="TIME",
        help="when it ends by itself, like 2030-01-31T18:00:00Z; without it by `resume`",
    )


def add_resume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "place", metavar="HOST", help="or HOST:PORT or a directory's URL, as the list has it"
    )


async def rest(parts: Parts, options: argparse.Namespace) -> int:
    """Nothing is staged for the host, nor handed over to it, until then."""
    until: datetime | None = None
    try:
        host = _host(options.host)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    if not options.reason.strip():
        raise InvalidRequest("--reason must say what the users of the host are to know")
    if options.until is not None:
        until = parse_moment("--until", options.until)
    if until is not None and until <= datetime.now(UTC):
        raise InvalidRequest(f"--until {options.until} is over already")
    if until is not None and until > LATEST:
        raise InvalidRequest(
            f"--until {options.until} is later than {LATEST:%Y-%m-%d}, the last that is possible: "
            "leave it out, and end the rest by `deliv queue resume`"
        )
    who = os.environ.get("SUDO_USER") or getpass.getuser()
    await parts.store.begin_rest(operators_place(host), options.reason, until, who)
    print(f"{host} rests")
    return 0


async def resume(parts: Parts, options: argparse.Namespace) -> int:
    """The place rests no more; whatever waits there goes on."""
    named = {options.place, _normal(options.place)}
    found = [one for one in await resting(parts) if one.place in named]
    for one in found:
        await parts.store.end_rest(one.place_key)
    if not found:
        raise InvalidRequest(
            f"{options.place!r} does not rest: name a place as `deliv queue list` has it"
        )
    print(f"{options.place} goes on")
    return 0


def _host(text: str) -> str:
    """The host's one spelling. ValueError: it is none, or has more with it."""
    if "/" in text or (text.count(":") == 1 and text.partition(":")[2].isdigit()):
        raise ValueError(f"{text}: a host rests as a whole, so name it without a port or path")
    return hosts.normal(text.removeprefix("[").removesuffix("]"))


def _normal(place: str) -> str:
    """As the list has it."""
    host, colon, port = place.rpartition(":")
    try:
        if colon and port.isdigit() and ":" not in host.strip("[]"):
            return f"{hosts.normal(host)}:{port}"
        return hosts.normal(place.removeprefix("[").removesuffix("]"))
    except ValueError:
        return place.removesuffix("/")


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC" if time else "?"

"""The command `deliv queue`: what waits in RabbitMQ, and what could not be handled.

No job needs this to go on: MariaDB has what is to be done, and the sweeps do it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from deliv import config
from deliv.assembly import build
from deliv.errors import DelivError
from deliv.gateways.broker import Broker, DeadLetter
from deliv.ops import logs

LOOKS = 100_000  # deliv.dead keeps no more
CONNECTION = 15.0  # seconds to reach the broker
SHOWN = 60  # bytes of a message that deliv did not send

Action = Callable[[Broker, argparse.Namespace], Awaitable[None]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Without a sub-command: what waits in each queue."""
    config.add_option(parser)
    parser.set_defaults(action=_list, json=False)
    below = parser.add_subparsers(metavar="WHAT")
    _json(_add(below, "list", _list, "how many messages wait in each queue"))
    dead = _json(_add(below, "dead", _dead, "the dead letters, and why they are dead"))
    dead.add_argument("--limit", type=int, default=100, metavar="N", help="default: %(default)s")
    _choice(_add(below, "replay", _replay, "send dead letters to their queues again"))
    _choice(_add(below, "discard", _discard, "remove dead letters"))


def command(options: argparse.Namespace) -> int:
    """Exit code 1 when the broker does not answer."""
    try:
        settings = config.load(config.find(options.config))
        logs.configure(config.Log(level="error", format="text"))
        asyncio.run(_run(settings, options))
    except DelivError as error:
        print(f"deliv queue: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(settings: config.Config, options: argparse.Namespace) -> None:
    broker = build(settings).broker
    broker.start()
    try:
        await broker.check_ready(CONNECTION)
        await options.action(broker, options)
    finally:
        await broker.stop(0)


async def _list(broker: Broker, options: argparse.Namespace) -> None:
    for queue, depth in (await broker.depths()).items():
        if options.json:
            print(json.dumps({"queue": queue, "messages": depth.messages,
                              "consumers": depth.consumers}))  # fmt: skip
        else:
            print(f"{queue:16} {depth.messages:8} waiting {depth.consumers:4} consumers")


async def _dead(broker: Broker, options: argparse.Namespace) -> None:
    letters = await broker.dead_letters(options.limit)
    never = datetime.min.replace(tzinfo=UTC)
    # The queue has put back at its end what was looked at.
    for letter in sorted(letters, key=lambda letter: letter.time or never):
        print(_json_line(letter) if options.json else _text_line(letter))


async def _replay(broker: Broker, options: argparse.Namespace) -> None:
    print(f"{await broker.replay(LOOKS, _wanted(options))} replayed")


async def _discard(broker: Broker, options: argparse.Namespace) -> None:
    print(f"{await broker.discard(LOOKS, _wanted(options))} discarded")


def _wanted(options: argparse.Namespace) -> Callable[[DeadLetter], bool]:
    return lambda letter: bool(options.all) or letter.job_id == options.job


def _text_line(letter: DeadLetter) -> str:
    """All but printable ASCII in escapes: every terminal shows that, and obeys none of it."""
    time = f"{letter.time:%Y-%m-%d %H:%M:%S} UTC" if letter.time else "at an unknown time"
    about = f"job {letter.job_id}" if letter.job_id else repr(letter.body[:SHOWN])[1:]
    text = f"{time}  {letter.queue or 'an unknown queue'}  {about}: {letter.reason}"
    return "".join(c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in text)


def _json_line(letter: DeadLetter) -> str:
    return json.dumps(
        {
            "time": letter.time.isoformat() if letter.time else None,
            "queue": letter.queue,
            "job_id": letter.job_id,
            "reason": letter.reason,
            "body": letter.body.decode("utf-8", "backslashreplace"),
        }
    )


def _add(
    below: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    action: Action,
    text: str,
) -> argparse.ArgumentParser:
    parser = below.add_parser(name, help=text, description=text)
    parser.set_defaults(action=action)
    return parser


def _json(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--json", action="store_true", help="a JSON object on each line")
    return parser


def _choice(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--job", metavar="JOB", help="those about one job")
    which.add_argument("--all", action="store_true", help="all of them")

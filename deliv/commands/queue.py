"""The command `deliv queue`: what waits for RabbitMQ and in it, could not be handled, or rests.

No job needs RabbitMQ to go on: MariaDB has what is to be done, and the sweeps do it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from deliv import config
from deliv.assembly import Parts, build
from deliv.commands import rests
from deliv.errors import BrokerUnavailable, DelivError, InvalidRequest
from deliv.gateways.broker import Broker, DeadLetter, Depth
from deliv.ops import logs

LOOKS = 100_000  # deliv.dead keeps no more
PATIENCE = 2.0  # seconds for the broker to connect, and to say what is in its queues
SHOWN = 60  # bytes of a message that deliv did not send

OUTBOX = "outbox"  # the name of the table that deliv sends from, beside those of the queues

Action = Callable[[Parts, argparse.Namespace], Awaitable[int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Without a sub-command: what waits, and where."""
    config.add_option(parser)
    parser.set_defaults(action=_list, json=False)
    below = parser.add_subparsers(metavar="WHAT")
    _json(
        _add(
            below, "list", _list, "how many messages wait for each queue and in it, and what rests"
        )
    )
    dead = _json(_add(below, "dead", _dead, "the dead letters, and why they are dead"))
    dead.add_argument("--limit", type=int, default=100, metavar="N", help="default: %(default)s")
    _choice(_add(below, "replay", _replay, "send dead letters to their queues again"))
    _choice(_add(below, "discard", _discard, "remove dead letters"))
    rests.add_rest(_add(below, "rest", rests.rest, "have a destination's host rest"))
    rests.add_resume(_add(below, "resume", rests.resume, "end a rest; what waits there goes on"))


def command(options: argparse.Namespace) -> int:
    """Exit code 1 when the broker, or for the list and rests the database, does not answer; 2 when
    what was typed can't be.
    """
    try:
        settings = config.load(config.find(options.config))
        logs.configure(config.Log(level="error", format="text"))
        return asyncio.run(_run(settings, options))
    except DelivError as error:
        return _complain(error)


async def _run(settings: config.Config, options: argparse.Namespace) -> int:
    parts = build(settings)
    parts.broker.start()
    try:
        action: Action = options.action
        return await action(parts, options)
    except BrokerUnavailable as error:
        return _complain(error)  # before the connection is closed, which may take seconds
    finally:
        await parts.broker.stop(0)
        parts.close()


def _complain(error: DelivError) -> int:
    print(logs.escaped(f"deliv queue: {error}", "\n"), file=sys.stderr)
    return 2 if isinstance(error, InvalidRequest) else 1


async def _list(parts: Parts, options: argparse.Namespace) -> int:
    """What the database knows is shown without the broker too, and the other way round."""
    failed: dict[str, DelivError] = {}  # what two answers lack for one reason is said once
    asked = _outbox(parts), _depths(parts), rests.resting(parts)
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, DelivError):
            failed[str(answer)] = answer
        elif isinstance(answer, BaseException):
            raise answer
        elif isinstance(answer, list):
            for rest in answer:
                rests.print_rest(rest, as_json=options.json)
        else:
            for queue, depth in answer.items():
                _print_depth(queue, depth, as_json=options.json)
    return max(map(_complain, failed.values()), default=0)


async def _outbox(parts: Parts) -> dict[str, Depth]:
    waiting = await parts.inspection.waiting(0)
    return {OUTBOX: Depth(messages=waiting.number, consumers=0)}


async def _depths(parts: Parts) -> dict[str, Depth]:
    broker = await _connected(parts)
    try:
        async with asyncio.timeout(PATIENCE):
            return await broker.depths()
    except TimeoutError as error:
        raise BrokerUnavailable("RabbitMQ does not answer") from error


async def _connected(parts: Parts) -> Broker:
    try:
        await parts.broker.check_ready(PATIENCE)
    except BrokerUnavailable as error:
        raise BrokerUnavailable(
            f"no connection with RabbitMQ within {PATIENCE:.0f} s: {error}"
        ) from error
    return parts.broker


def _print_depth(queue: str, depth: Depth, *, as_json: bool) -> None:
    if as_json:
        text = json.dumps(
            {"queue": queue, "messages": depth.messages, "consumers": depth.consumers}
        )
    else:
        text = f"{queue:16} {depth.messages:8} waiting {depth.consumers:4} consumers"
    print(text, flush=True)


async def _dead(parts: Parts, options: argparse.Namespace) -> int:
    letters = await (await _connected(parts)).dead_letters(options.limit)
    never = datetime.min.replace(tzinfo=UTC)
    # The queue has put back at its end what was looked at.
    for letter in sorted(letters, key=lambda letter: letter.time or never):
        print(_json_line(letter) if options.json else _text_line(letter))
    return 0


async def _replay(parts: Parts, options: argparse.Namespace) -> int:
    broker = await _connected(parts)
    print(f"{await broker.replay(LOOKS, _wanted(options))} replayed")
    return 0


async def _discard(parts: Parts, options: argparse.Namespace) -> int:
    broker = await _connected(parts)
    print(f"{await broker.discard(LOOKS, _wanted(options))} discarded")
    return 0


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

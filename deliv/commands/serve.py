"""The command `deliv serve`: run the service, or check whether it could."""

from __future__ import annotations

import argparse
import asyncio
import sys

from deliv import config, runtime
from deliv.assembly import build
from deliv.config import Config
from deliv.errors import DelivError, Unavailable
from deliv.gateways.gridftp import GridFtp
from deliv.ops import logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config.add_option(parser)
    parser.add_argument(
        "--instance", type=int, default=0, metavar="N", help="added to the monitoring port"
    )
    parser.add_argument("--check", action="store_true", help="check config and dependencies, end")


def command(options: argparse.Namespace) -> int:
    """Exit code 1 when something is wrong."""
    try:
        settings = config.load(config.find(options.config))
        settings = config.instance(settings, options.instance)
        logs.configure(settings.log)
        if options.check:
            return asyncio.run(_check(settings))
        asyncio.run(runtime.serve(settings))
    except DelivError as error:
        print(logs.escaped(f"deliv: {error}", "\n"), file=sys.stderr)
        return 1
    return 0


async def _check(settings: Config) -> int:
    """Print for each dependency whether it answers, and what is wrong where it doesn't."""
    parts = build(settings)
    _ = parts.services  # ConfigError when a file is not as it must be from the start
    health, broker = parts.health, parts.broker
    broker.start()
    await broker.settled(float(settings.database.connect_timeout))
    await health.check_once()
    report = health.report()
    for name, state in report["dependencies"].items():
        line = f"{'ok  ' if state['up'] else 'FAIL'} {name}: {state['detail']}"
        print(logs.escaped(line))
    if parts.gridftp is not None:
        print(logs.escaped(await describe_gridftp(parts.gridftp)))
    await broker.stop(1)
    parts.close()
    return 1 if report["waiting_for"] else 0


async def describe_gridftp(gridftp: GridFtp) -> str:
    """Without it deliv runs as well; a job that FTS has lost may end as `exists` for that."""
    try:
        await gridftp.check_ready()
    except Unavailable as error:
        return f"warn gridftp: files at destinations can't be compared: {error}"
    return "ok   gridftp: files at destinations can be compared"

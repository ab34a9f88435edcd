"""How the stack's own HTTPS servers run: `python -m deliv_testbed.NAME --config FILE`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sqlite3
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application

from deliv.errors import ConfigError
from deliv_testbed.settings import ServerSettings, Settings, read

log = logging.getLogger("deliv_testbed")


def main(name: str, kind: type[Settings], serve: Callable[[Settings], Awaitable[None]]) -> int:
    """Read the settings (of the class `kind`) and serve until SIGTERM; the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m deliv_testbed.{name}")
    parser.add_argument("--config", type=Path, required=True, help="JSON file; see settings.py")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    async def run() -> None:
        await serve(read(options.config, kind))

    try:
        asyncio.run(run())
    except (ConfigError, OSError, sqlite3.Error) as error:
        print(f"{name} can't run: {error}", file=sys.stderr)
        return 1
    return 0


def stop_signal() -> asyncio.Event:
    """Set at SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def listening(
    application: Application, settings: ServerSettings, context: ssl.SSLContext, **options: Any
) -> AsyncIterator[None]:
    """Answers requests as long as the block runs; `options` are HTTPServer's."""
    server = HTTPServer(application, ssl_options=context, **options)
    server.listen(settings.port, settings.host)
    log.info("listening on %s:%d", settings.host, settings.port)
    try:
        yield
    finally:
        server.stop()
        await server.close_all_connections()

"""The whole demonstration: the stack up, deliveries, where everything is, the stack down."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.console import Console

from deliv_testbed import control
from deliv_testbed.demo.run import Testbed, run, say
from deliv_testbed.layout import Layout, Request

STARTING = "Bringing the local stack up: MariaDB, RabbitMQ, GridFTP, stager, FTS, deliv ..."


def show(where: Layout) -> bool:
    """Whether everything was delivered as expected. A stack that was up before stays up."""
    console, started = Console(), time.monotonic()
    ours = bring_up(where, console)
    try:
        description = json.loads(where.description.read_text(encoding="utf-8"))
        correct = run(description, console)
        tell_places(description, where.directory, console)
    finally:
        if ours:
            say(console, "Taking the local stack down ...")
            control.down(where)
    say(console, f"{'Done' if correct else 'FAILED'} after {time.monotonic() - started:.0f} s.")
    return correct


def bring_up(where: Layout, console: Console) -> bool:
    """Whether it was us who did."""
    started = time.monotonic()
    if not console.is_terminal:
        say(console, STARTING)
    with console.status(STARTING):
        ours = control.up(where, Request())
    say(console, f"Up after {time.monotonic() - started:.1f} s.")
    return ours


def tell_places(description: Testbed, directory: Path, console: Console) -> None:
    places = {
        "REST": description["url"],
        "metrics": f"{description['monitoring_url']}/metrics",
        "stack": directory / "testbed.json",
        "config": description["config"],
        "logs": directory / "log",
        "archive": description["gridftp"]["archive"]["root"],
        "delivered": description["gridftp"]["destination"]["root"],
        "certificates": description["ca_dir"],
    }
    say(console, "Where everything is (files stay until the next start; `make up` starts it):\n")
    for name, place in places.items():
        say(console, f"    {name:<13} {place}")
    say(console, "")

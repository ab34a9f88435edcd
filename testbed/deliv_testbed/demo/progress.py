"""Deliveries under way, shown: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from deliv.client.show import units
from deliv.model.states import Status
from deliv_testbed.demo.delivery import Delivery

HEARTBEAT = 5.0  # seconds without a line at most
COLOURS = {Status.SUCCESS: "green", Status.ERROR: "red", Status.TRANSFERRING: "cyan"}


class Progress(Protocol):
    def show(self, deliveries: Sequence[Delivery]) -> None: ...


@contextmanager
def progress(console: Console) -> Iterator[Progress]:
    """The view that fits the console, for as long as the block runs."""
    if not console.is_terminal:
        yield Lines(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield LiveTable(live)


class LiveTable:
    """A table that is drawn again in place."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._started = time.monotonic()

    def show(self, deliveries: Sequence[Delivery]) -> None:
        table = Table(title=f"{time.monotonic() - self._started:.0f} s", title_justify="left")
        table.add_column("product")
        table.add_column("size", justify="right")
        table.add_column("state", min_width=len(Status.TRANSFERRING))
        table.add_column("files", justify="right")
        table.add_column("arrived", justify="right")
        for delivery in deliveries:
            table.add_row(*_row(delivery))
        self._live.update(table, refresh=True)


class Lines:
    """A line for each change of state, and one every few seconds in between.

    Of a directory one for each of its files, too.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, tuple[Status, int]] = {}
        self._last = time.monotonic()

    def show(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            progress = delivery.status, delivery.arrived_files if delivery.is_directory else 0
            if self._shown.get(delivery.job_id) != progress:
                self._shown[delivery.job_id] = progress
                amount = units(delivery.size)
                if delivery.is_directory:
                    amount = (
                        f"{_files(delivery)} files, {units(delivery.arrived_bytes)} of {amount}"
                    )
                self._say(f"{delivery.status:<12}  {delivery.product_id} ({amount})")
        if time.monotonic() - self._last > HEARTBEAT:
            ended = sum(delivery.ended for delivery in deliveries)
            files = sum(delivery.arrived_files for delivery in deliveries)
            arrived = units(sum(delivery.arrived_bytes for delivery in deliveries))
            self._say(
                f"{ended} of {len(deliveries)} have ended, {files} files, {arrived} at the "
                "destination"
            )

    def _say(self, line: str) -> None:
        self._last = time.monotonic()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _row(delivery: Delivery) -> tuple[str, str, str, str, str]:
    colour = COLOURS.get(delivery.status, "white")
    return (
        escape(delivery.product_id),
        units(delivery.size),
        f"[{colour}]{delivery.status}[/]",
        _files(delivery) if delivery.sizes else "",
        units(delivery.arrived_bytes),
    )


def _files(delivery: Delivery) -> str:
    return f"{delivery.arrived_files} of {len(delivery.sizes)}"

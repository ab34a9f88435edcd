"""Deliver real files through a running stack, as alice, and look at what arrived."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from deliv.client import Client
from deliv.client.show import units
from deliv_testbed.demo.delivery import Delivery
from deliv_testbed.demo.progress import progress
from deliv_testbed.demo.verdict import judge
from deliv_testbed.stager.archive import INDEX

DEADLINE = 150.0  # seconds for all deliveries together
PAUSE = 0.25
FAILING = "fail-005"
PREFIX = "demo-"

Testbed = Mapping[str, Any]


def run(testbed: Testbed, console: Console) -> bool:
    """Deliver every seed product and one that has to fail; whether all ended as expected.

    `testbed` is what testbed.json says.
    """
    user = testbed["users"]["alice"]
    client = Client(testbed["url"], user["proxy"], user["proxy"], testbed["ca_dir"])
    directory = _fresh_directory(Path(testbed["gridftp"]["destination"]["root"]))
    deliveries = [*_submit(client, testbed, directory)]
    files = sum(len(delivery.sizes) for delivery in deliveries)
    total = units(sum(delivery.size for delivery in deliveries))
    say(
        console,
        f"Submitted {len(deliveries)} products ({files} files, {total}) as {user['dn']}\n",
    )
    _watch(client, deliveries, console)
    say(console, "\nBoth sides, read from the files behind the GridFTP servers:\n")
    verdicts = [judge(delivery) for delivery in deliveries]
    for verdict in verdicts:
        headline, *facts = verdict.lines
        mark, colour = ("✓", "green") if verdict.correct else ("✗", "red")
        console.print(f"[{colour}]{mark}[/] ", end="")
        say(console, headline)
        for fact in facts:
            say(console, f"    {fact}")
        say(console, "")
    correct = sum(verdict.correct for verdict in verdicts)
    say(console, f"{correct} of {len(verdicts)} deliveries ended as expected.\n")
    return correct == len(verdicts)


def _fresh_directory(root: Path) -> Path:
    """A directory for this run behind the destination; those of earlier runs are removed."""
    for old in root.glob(f"{PREFIX}*"):
        shutil.rmtree(old)
    directory = root / f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S}"
    directory.mkdir()
    owner = root.stat()
    os.chown(directory, owner.st_uid, owner.st_gid)
    return directory


def _submit(client: Client, testbed: Testbed, directory: Path) -> Iterator[Delivery]:
    """One job for each product."""
    destination = f"{testbed['gridftp']['destination']['url']}/{directory.name}"
    archive = Path(testbed["gridftp"]["archive"]["root"])
    for product_id, sizes, source in wanted(testbed["products"], archive):
        yield Delivery(
            product_id=product_id,
            sizes=sizes,
            source=source,
            directory=directory,
            job_id=client.submit(product_id, destination),
            answer={},
        )


def wanted(
    products: Mapping[str, Any], archive: Path
) -> Iterator[tuple[str, Mapping[str, int], Path | None]]:
    """Each product of the archive, and one whose staging fails: id, sizes, source.

    `products` is what testbed.json says of them.
    """
    index = json.loads((archive / INDEX).read_text(encoding="utf-8"))
    for product_id, entry in products.items():
        files = entry.get("files", {".": entry})
        sizes = {name: file["size"] for name, file in files.items()}
        yield product_id, sizes, archive / index[product_id]["file"]
    yield FAILING, {}, None


def _watch(client: Client, deliveries: Sequence[Delivery], console: Console) -> None:
    """Ask for every unfinished job again and again until all have ended, and show it."""
    deadline = time.monotonic() + DEADLINE
    with progress(console) as view:
        while time.monotonic() < deadline:
            for delivery in deliveries:
                if not delivery.ended:
                    delivery.answer = client.status(delivery.job_id)
            view.show(deliveries)
            if all(delivery.ended for delivery in deliveries):
                return
            time.sleep(PAUSE)


def say(console: Console, line: str) -> None:
    """A line as it is, without markup or wrapping."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)

"""Faults from a seed: each of a table comes in its turn, is caused and undone."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pymysql

from soak.faults import Fault
from soak.site import Site

EVERY = 7.0  # seconds from one fault to the next
ERRORS = (AssertionError, OSError, subprocess.SubprocessError, pymysql.Error)


@dataclass(frozen=True)
class Card:
    """A fault of one part."""

    fault: Fault
    part: str

    def __str__(self) -> str:
        return f"{self.fault.name}: {self.part}"

    @property
    def parts(self) -> set[str]:
        return {self.part, *self.fault.needs}


class Trouble:
    """`faults` come in the order of a pack of cards, which is shuffled when it has been dealt."""

    def __init__(self, site: Site, faults: Iterable[Fault], seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._pack = [
            Card(fault, part)
            for fault in faults
            for part in fault.parts
            for _ in range(fault.often)
        ]
        self._left: list[Card] = []
        self._disturbed: set[str] = set()
        self._over = threading.Event()
        self.survived: Counter[str] = Counter()
        self.mishaps: list[str] = []

    def run(self) -> None:
        """One fault after another until `stop`; then everything runs again."""
        with ThreadPoolExecutor(8) as pool:
            while not self._over.wait(EVERY):
                if card := self._deal():
                    self._disturbed |= card.parts
                    pool.submit(self._cause, card, self._random.uniform(*card.fault.lasts))

    def stop(self) -> None:
        self._over.set()

    def _deal(self) -> Card | None:
        """The next fault of parts that nothing disturbs just now."""
        if not self._left:
            self._left = self._random.sample(self._pack, len(self._pack))
        card = next((card for card in self._left if not card.parts & self._disturbed), None)
        if card is not None:
            self._left.remove(card)
        return card

    def _cause(self, card: Card, seconds: float) -> None:
        try:
            try:
                card.fault.does(self._site, card.part)
                time.sleep(seconds)
            finally:
                card.fault.undoes(self._site, card.part)
            self.survived[str(card)] += 1
        except ERRORS as error:
            self.mishaps.append(f"{card}: {error}")
        finally:
            self._disturbed -= card.parts

"""Injected faults: a product id's prefixes say what goes wrong.

`fail-X`, `slow-SECONDS-X`, `silent-X` (never calls back), `early-X` (calls back before it answers
the request), `twice-X`, `badcode-X`, `badtoken-X`, `kept-X` (its release fails while there is a
file `keep` in the state directory), `held-X` (is not copied while there is a file `hold` there),
`lost-N-X` (the Nth file, from 1, is reported but not there: it goes before the report does, so that
no copy is faster), `short-N-X` (the Nth file is a byte shorter than reported); X is the real
product id and may carry a further prefix, as in `twice-slow-2-X`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

WORDS = "fail|silent|early|twice|badcode|badtoken|kept|held"
PREFIX = re.compile(
    rf"(?:({WORDS})|slow-(\d+(?:\.\d+)?)|(lost|short)-(\d+))-(.+)", re.DOTALL | re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What to do for one request.

    `delay` in seconds before the copy starts; `lost` and `short` have numbers of files.
    """

    product_id: str
    fail: bool = False
    silent: bool = False
    early: bool = False
    twice: bool = False
    badcode: bool = False
    badtoken: bool = False
    kept: bool = False
    held: bool = False
    delay: float = 0.0
    lost: frozenset[int] = frozenset()
    short: frozenset[int] = frozenset()


def faults_of(product_id: str) -> Faults:
    """The faults ordered by the prefixes, and the product id behind them."""
    ordered: set[str] = set()
    delay = 0.0
    files: dict[str, set[int]] = {"lost": set(), "short": set()}
    while match := PREFIX.fullmatch(product_id):
        word, seconds, which, number, product_id = match.groups()
        if which:
            files[which].add(int(number))
        ordered.add(word)
        delay += float(seconds or 0)
    return Faults(
        product_id=product_id,
        fail="fail" in ordered,
        silent="silent" in ordered,
        early="early" in ordered,
        twice="twice" in ordered,
        badcode="badcode" in ordered,
        badtoken="badtoken" in ordered,
        kept="kept" in ordered,
        held="held" in ordered,
        delay=delay,
        lost=frozenset(files["lost"]),
        short=frozenset(files["short"]),
    )

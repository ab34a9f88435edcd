"""Injected faults: a product id's prefixes say what goes wrong.

`fail-X`, `slow-SECONDS-X`, `silent-X` (never calls back), `early-X` (calls back before it answers
the request), `twice-X`, `badcode-X`, `badtoken-X`, `kept-X` (its release fails while there is a
file `keep` in the state directory); X is the real product id and may carry a further prefix, as in
`twice-slow-2-X`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = re.compile(
    r"(fail|silent|early|twice|badcode|badtoken|kept|slow-(\d+(?:\.\d+)?))-(.+)", re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What to do for one request: `delay` in seconds before the copy starts."""

    product_id: str
    fail: bool = False
    silent: bool = False
    early: bool = False
    twice: bool = False
    badcode: bool = False
    badtoken: bool = False
    kept: bool = False
    delay: float = 0.0


def faults_of(product_id: str) -> Faults:
    """The faults ordered by the prefixes, and the product id behind them."""
    ordered: set[str] = set()
    delay = 0.0
    while match := PREFIX.fullmatch(product_id):
        word, seconds, product_id = match.groups()
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
        delay=delay,
    )

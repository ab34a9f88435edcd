"""Shell-like patterns of names, `*` and `?`, matched in time linear in the name.

Between two stars the earliest match of the text that separates them is kept (an atomic group): a
later match can't succeed where that one fails, so nothing is tried twice.
"""

from __future__ import annotations

import re


def compiled(pattern: str, *, one: str, many: str, rest: str = "") -> re.Pattern[str]:
    """A pattern as a regular expression, for `fullmatch`.

    `one` is the expression for `?`, `many`, which ends in a quantifier, that for `*`; `rest` is an
    expression for what follows the pattern.
    """
    first, *chunks = (one.join(map(re.escape, chunk.split("?"))) for chunk in pattern.split("*"))
    if not chunks:
        return re.compile(first + rest, re.DOTALL)
    middle = "".join(f"(?>{many}?{chunk})" for chunk in chunks[:-1])
    return re.compile(f"{first}{middle}{many}{chunks[-1]}{rest}", re.DOTALL)

"""Patterns of DNs: `?` matches one character and `*` any number of them.

Both stay within the value of one attribute: neither matches the `/` or `+` that begins another one,
so that a longer name never matches `/O=Example/CN=*`. `/**` at the end matches one or more further
parts. An escaped `\\/` or `\\+` is part of a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from deliv.identity import patterns

CHARACTER = r"(?:\\.|[^/+\\])"  # one of an attribute's value
BELOW = "/**"


def compiled(pattern: str) -> Callable[[str], bool]:
    """A DN or a pattern of DNs as a predicate; ValueError when it is neither."""
    if pattern != BELOW and not re.match(r"/[^/+=]+=", pattern):
        raise ValueError(f"expected a DN like /O=Example/CN=Alice, got {pattern!r}")
    if not pattern.isascii() or not pattern.isprintable():
        raise ValueError(f"characters that aren't ASCII are written \\xHH in a DN, got {pattern!r}")
    body = pattern.removesuffix(BELOW)
    if "**" in body or (body != pattern and body.endswith("\\")):
        raise ValueError(f"'**' is allowed only after a last '/', got {pattern!r}")
    rest = f"(?:[/+]{CHARACTER}+)+" if body != pattern else ""
    expression = patterns.compiled(body, one=CHARACTER, many=f"{CHARACTER}*", rest=rest)
    return lambda dn: dn == pattern or expression.fullmatch(dn) is not None

"""FQANs, in which VOMS writes a member's groups and roles: /VO/GROUP/Role=ROLE.

`/Role=NULL` and `/Capability=NULL` have no meaning and are left out, in patterns too.

In a pattern `?` matches one character and `*` any number of them, neither a `/` or `=`: `/skao/*`
is any group directly below, and no role. `/**` at the end matches one or more further parts, groups
or roles. The VO has to be written out.

Source: GFD.182, and https://github.com/italiangrid/voms-api-java, PathNamingScheme.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from deliv.identity import patterns

LONGEST = 255  # characters
NAME = "[A-Za-z0-9_.-]+"
FQAN = re.compile(rf"((?:/{NAME})+)(/Role={NAME})?(/Capability=[A-Za-z0-9_. -]+)?")
BELOW = "/**"
PATTERN = re.compile(
    rf"(/{NAME}(?:/[A-Za-z0-9_.*?-]+)*)(/Role=[A-Za-z0-9_.*?-]+)?(/Capability=[A-Za-z0-9_. *?-]+)?"
)
CHARACTER = "[A-Za-z0-9_. -]"
MEANINGLESS = ("/Role=NULL", "/Capability=NULL")


def normal(fqan: str) -> str:
    """An FQAN without its meaningless parts; ValueError when it is none."""
    found = FQAN.fullmatch(fqan)
    if found is None or len(fqan) > LONGEST:
        raise ValueError("not an FQAN")
    return _joined(found)


def compiled(pattern: str) -> Callable[[str], bool]:
    """An FQAN or a pattern as a predicate on normal FQANs; ValueError when it is neither."""
    body = pattern.removesuffix(BELOW)
    found = PATTERN.fullmatch(body)
    if found is None or "**" in body or len(pattern) > LONGEST:
        raise ValueError(f"expected an FQAN like /skao/meerkat/Role=production, got {pattern!r}")
    rest = "(?:/[^/]+)+" if body != pattern else ""
    expression = patterns.compiled(_joined(found), one=CHARACTER, many=f"{CHARACTER}*", rest=rest)
    return lambda fqan: expression.fullmatch(fqan) is not None


def _joined(found: re.Match[str]) -> str:
    return "".join(part for part in found.groups() if part and part not in MEANINGLESS)
